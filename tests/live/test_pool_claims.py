"""One kernel that is ready, and several who want it in one process: one gets it whole, and nobody takes it away."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tfgpu_kernel import claim, launch, pool, quiet, waiting
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.events import outcome
from tfgpu_kernel.launch import Kernel, Prepared
from tfgpu_kernel.pool import Pool
from tfgpu_kernel.progress import unheard
from tfgpu_kernel.provisioner import TfgpuProvisioner

from .test_pool import keeping, until


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


@asynccontextmanager
async def wanted(workspace: Path, image: str) -> AsyncIterator[tuple[Pool, Prepared, claim.Wish]]:
    """Keep kernels of one kind ready, and say what takes one."""
    engine = find.engine()
    config = TfgpuProvisioner(image=image, gpus="none", pull="never").settings()
    request = launch.Request("one", "tfgpu", str(workspace), str(workspace), {})
    prepared = await launch.prepare(request, config, engine, unheard)
    wish = await asyncio.to_thread(claim.wish, prepared, engine)
    async with keeping() as kept:
        pool.note(prepared, wish, engine)
        yield kept, prepared, wish


async def ended(kernel: Kernel) -> None:
    """End a kernel that was taken; its end is noticed."""
    assert not kernel.end.done(), "its end is not known, and not thought to be"
    subprocess.run(["docker", "kill", kernel.container], check=True, capture_output=True)
    assert (await asyncio.wait_for(outcome(kernel.end), 30)).code == 137
    engine = find.engine()
    engine.unwatch(kernel.container)
    await engine.remove(kernel.container)
    kernel.run.remove()


@pytest.mark.parametrize("times", [4, pytest.param(60, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
@pytest.mark.usefixtures("kernels")
async def test_two_starts_at_once(workspace: Path, slim: str, times: int) -> None:
    """Exactly one gets the kernel, which lives on, and whose end is noticed."""
    async with wanted(workspace, slim) as (_, prepared, wish):
        for _ in range(times):
            await until(lambda: bool(waiting.offered(find.engine())), 120)  # a busy machine
            both = (claim.take(prepared, wish, find.engine(), unheard) for _ in range(2))
            (taken,) = [kernel for kernel in await asyncio.gather(*both) if kernel is not None]
            await asyncio.sleep(0.5)  # whoever would remove it has looked at it by then
            await ended(taken)


@pytest.mark.parametrize("who", ["this process", "another"])
@pytest.mark.usefixtures("kernels")
async def test_a_pool_ends_no_kernel_that_somebody_has_taken(workspace: Path, slim: str, who: str) -> None:
    """A kernel that is taken at the moment when the pool gives it up is the taker's."""
    async with wanted(workspace, slim) as (kept, prepared, wish):
        await until(lambda: bool(waiting.offered(find.engine())), 120)
        one = next(iter(kept._kept.values()))
        assert one.watcher is not None
        one.watcher.cancel()  # it hears nothing of the claim before the pool gives the kernel up
        taken = await claim.take(prepared, wish, find.engine(), unheard)
        assert taken is not None
        if who == "another":
            claim.taken_here.discard(taken.container)
        await kept._drain(one)
        await asyncio.sleep(0.5)
        shown = ["docker", "inspect", "--format", "{{.State.Running}}", taken.container]
        assert subprocess.run(shown, capture_output=True, text=True, check=False).stdout == "true\n"
        taken = Kernel(**{**vars(taken), "end": find.engine().watch(taken.container)}) if who == "another" else taken
        await ended(taken)
