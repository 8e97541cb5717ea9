"""A start that is cancelled, at whatever moment, leaves nothing: no container, no folder, no kernel half taken."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tfgpu_kernel import claim, launch, pool, quiet, waiting
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.health import smoke
from tfgpu_kernel.image import workshop
from tfgpu_kernel.labels import KIND, KIND_PROBE, OWNER
from tfgpu_kernel.launch import Prepared
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.pool import Pool
from tfgpu_kernel.progress import unheard
from tfgpu_kernel.provisioner import TfgpuProvisioner
from tfgpu_kernel.runfolder import RunFolder

from .driving import kernel
from .test_pool import keeping, one_ready


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


def _left(tmp_path: Path) -> list[str]:
    """Return the containers and run folders of this test."""
    form = '{{.ID}} {{.Label "io.tfgpu.run"}}'
    listing = ["docker", "ps", "--all", "--filter", "label=io.tfgpu.kind=kernel", "--format", form]
    told = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    return [line for line in told.splitlines() if str(tmp_path) in line] + os.listdir(tmp_path / "runtime/tfgpu")


async def _prepared(workspace: Path, image: str, **settings: object) -> Prepared:
    config = TfgpuProvisioner(image=image, gpus="none", pull="never", **settings).settings()
    request = launch.Request("one", "tfgpu", str(workspace), str(workspace), {})
    return await launch.prepare(request, config, find.engine(), unheard)


@pytest.mark.parametrize(
    ("seconds", "times"),
    [(0.015, 100), (0.5, 10), pytest.param(0.015, 1500, marks=pytest.mark.nightly),
     pytest.param(0.5, 200, marks=pytest.mark.nightly)],
)  # fmt: skip
@pytest.mark.usefixtures("kernels")
async def test_cold_start(workspace: Path, tmp_path: Path, slim: str, seconds: float, times: int) -> None:
    """The first milliseconds, in which its files are made, and the whole of it."""
    chance = random.Random(times)  # noqa: S311
    engine = find.engine()
    prepared = await _prepared(workspace, slim)
    for number in range(times):
        starting = asyncio.create_task(launch.start(prepared, engine, unheard))
        await asyncio.sleep(moment := chance.uniform(0, seconds))
        starting.cancel()
        try:
            started = await starting
        except asyncio.CancelledError:
            assert not _left(tmp_path), f"the {number}th, after {moment * 1000:.2f} ms"
        else:
            engine.unwatch(started.container)
            await engine.remove(started.container)
            started.run.remove()


@pytest.mark.parametrize("times", [6, pytest.param(80, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
@pytest.mark.usefixtures("kernels")
async def test_claim(workspace: Path, tmp_path: Path, slim: str, times: int) -> None:
    """A kernel that waits is taken, or waits on, or is gone and replaced."""
    chance = random.Random(times)  # noqa: S311
    engine = find.engine()
    prepared = await _prepared(workspace, slim)
    wanted = await asyncio.to_thread(claim.wish, prepared, engine)
    async with keeping() as kept:
        pool.note(prepared, wanted, engine)
        for _ in range(times):
            await one_ready(kept)
            taking = asyncio.create_task(claim.take(prepared, wanted, engine, unheard))
            await asyncio.sleep(chance.uniform(0, 0.03))
            taking.cancel()
            try:
                taken = await taking
            except asyncio.CancelledError:
                continue
            if taken is None:  # the one before ends as a kernel that was half taken
                continue
            engine.unwatch(taken.container)
            await engine.remove(taken.container)
            taken.run.remove()
    assert not _left(tmp_path)


@pytest.mark.usefixtures("kernels")
async def test_pool_that_is_stopped(workspace: Path, tmp_path: Path) -> None:
    """A server that ends while a kernel is being made ready."""
    chance = random.Random(1)  # noqa: S311
    for _ in range(6):
        async with keeping():
            async with kernel(workspace):
                await asyncio.sleep(chance.uniform(0, 0.6))
        assert not _left(tmp_path)


@pytest.mark.parametrize(
    "moment", ["its weight was being changed", "its weight is given back", "it gets the usual one"]
)
@pytest.mark.usefixtures("kernels")
async def test_pool_that_is_stopped_with_a_kernel_all_but_ready(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It has started, and the pool doesn't have it yet."""
    reached = asyncio.Event()
    connect, update = waiting.connect, DockerEngine.update

    async def dawdle() -> None:
        reached.set()
        await asyncio.sleep(5)

    async def weigh(_pool: Pool, _engine: Engine, _runs: object, over: asyncio.Event) -> None:
        await over.wait()
        if moment == "its weight was being changed":
            await dawdle()

    async def light(run: RunFolder, order: dict[str, Any]) -> Any:
        held = await connect(run, order)
        return held and (held[0], {**held[1], "weight": 1})  # as an older runtime makes of 1024 shares

    async def changed(engine: DockerEngine, container: str, **limits: Any) -> None:
        await update(engine, container, **limits)
        last = limits["CpuShares"] == pool._USUAL_AS_SHARES
        if moment == ("it gets the usual one" if last else "its weight is given back"):
            await dawdle()

    monkeypatch.setattr(Pool, "_weigh", weigh)
    monkeypatch.setattr(waiting, "connect", light)
    monkeypatch.setattr(DockerEngine, "update", changed)
    async with keeping():
        async with kernel(workspace):
            pass
        await asyncio.wait_for(reached.wait(), 60)
    assert not _left(tmp_path)


def _at_work() -> list[str]:
    """Return the containers in which this process works in an image."""
    marks = ["--filter", f"label=io.tfgpu.owner={Owner.current()}"]
    listing = ["docker", "ps", "--all", *marks, "--format", '{{.ID}} {{.Label "io.tfgpu.kind"}} {{.Status}}']
    told = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    return [line for line in told.splitlines() if " kernel " not in line]


@pytest.mark.parametrize(
    ("seconds", "times"),
    [(0.1, 8), pytest.param(0.3, 200, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])],
)
@pytest.mark.parametrize("work", ["look into an image", "the doctor's probe"])
async def test_work_in_a_container(slim: str, engine: Engine, work: str, seconds: float, times: int) -> None:
    """The first moments, in which the engine makes the container whether or not anybody waits for it."""
    chance = random.Random(times)  # noqa: S311
    record = await engine.image(slim)
    assert record is not None
    body = {"Image": record.id, "Cmd": ["sleep", "60"], "Labels": {OWNER: str(Owner.current()), KIND: KIND_PROBE}}
    for number in range(times):
        working: asyncio.Task[object] = asyncio.create_task(
            workshop.look(record, slim, engine) if work == "look into an image" else smoke._run(engine, body, slim)
        )
        await asyncio.sleep(moment := chance.uniform(0, seconds))
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert not _at_work(), f"the {number}th, after {moment * 1000:.2f} ms"
