"""A restart that failed is no end: the next one works, on the channels that clients hold."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.live.test_pool import container_of, keeping, one_ready
from tfgpu_kernel import launches, provisioner, quiet
from tfgpu_kernel.errors import EngineNotAnswering, TfgpuError
from tfgpu_kernel.labels import RUN

from .conftest import install
from .driving import Driven, kernel
from .serving import Server, call, serving


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


async def failing(driven: Driven, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Restart, and have that fail."""

    async def start(*given: Any, **named: Any) -> Any:
        if how == "cancelled":
            assert launches.current()[0].cancel()
            await asyncio.sleep(10)
        raise EngineNotAnswering("The engine gives no answer.", "wait.")

    with monkeypatch.context() as here:
        here.setattr(provisioner, "start", start)
        here.setattr("tfgpu_kernel.claim.waiting.offered", lambda engine: [])
        with pytest.raises(TfgpuError, match=how):
            await driven.restart()


@pytest.mark.parametrize("how", ["cancelled", pytest.param("no answer", marks=pytest.mark.nightly)])
async def test_a_restart_after_one_that_failed(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Cold: the kernel answers on its old channels; what the failed one left is nothing."""
    async with kernel(workspace) as driven:
        run = driven.manager.provisioner.run.path  # type: ignore[union-attr]
        await failing(driven, monkeypatch, how)
        assert not run.exists(), "a kernel that doesn't run holds nothing"
        await driven.restart()
        assert await driven.run("print(1)") == "1\n"
        assert driven.manager.provisioner.run.path == run  # type: ignore[union-attr]


async def test_a_warm_restart_after_one_that_failed(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Onto a ready-made kernel, too, although the folder whose place that takes is gone."""
    async with keeping() as kept, kernel(workspace) as driven:
        ready = await one_ready(kept)
        await failing(driven, monkeypatch, "no answer")
        await driven.restart()
        assert container_of(driven) == ready.container
        assert await driven.run("print(1)") == "1\n"


@pytest.mark.nightly
async def test_a_container_that_came_late_holds_no_restart_up(kernels: Path, workspace: Path, slim: str) -> None:
    """An engine that gave no answer in time makes its container all the same, and that has the name: it goes."""
    async with kernel(workspace) as driven:
        run = driven.manager.provisioner.run.path  # type: ignore[union-attr]
        await driven.manager.shutdown_kernel(now=True, restart=True)
        await driven.manager.provisioner._removed()  # type: ignore[union-attr]
        late = ["docker", "create", "--name", f"tfgpu-{run.name}", "--label", f"{RUN}={run}", slim, "true"]
        subprocess.run(late, check=True, capture_output=True)
        await driven.restart()
        assert await driven.run("print(1)") == "1\n"


def restart(server: Server, kernel_id: str) -> str:
    """Restart a kernel as a page does; return its id, or why it wasn't."""
    answer = call(server, "POST", f"/api/kernels/{kernel_id}/restart")
    return str(answer.get("id") or answer)


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.fixture
def slow(kernels: Path, workspace: Path, slim: str) -> tuple[Path, Path]:
    """Make a kernel ``slow``; return the file that its start makes, and the one that it waits for to be gone."""
    seen, waits = workspace / "seen", workspace / "waits"
    (workspace / "sitecustomize.py").write_text(
        f"import os, time\nopen({str(seen)!r}, 'w').close()\n"
        f"while os.path.exists({str(waits)!r}):\n    time.sleep(0.1)\n"
    )
    settings = ("--image", slim, "--gpus", "none", "--pool-size", "0", "--env", f"PYTHONPATH={workspace}")
    install(kernels.parents[1], "slow", *settings)
    return seen, waits


@pytest.mark.parametrize("who", ["page", "server"])
def test_an_end_during_a_restart(slow: tuple[Path, Path], workspace: Path, who: str) -> None:
    """A kernel that is being restarted is ended by a page, or by the server's own end: nothing of it is left."""
    seen, waits = slow
    listing = ["docker", "ps", "--all", "--quiet", "--filter", f"label={RUN}"]
    with serving(workspace) as server, ThreadPoolExecutor() as pages:
        before = set(subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split())
        kernel_id = call(server, "POST", "/api/kernels", {"name": "slow"})["id"]
        waits.touch()
        seen.unlink()
        restarting = pages.submit(restart, server, kernel_id)
        until(seen.exists)
        if who == "page":
            assert call(server, "DELETE", f"/api/kernels/{kernel_id}") is None, server.told()
            assert "restarting kernel" in restarting.result(60), "it was broken off"
            assert call(server, "GET", "/api/kernels") == []
        else:
            server.process.terminate()
            assert server.process.wait(60) == 0
        assert "InvalidStateError" not in server.log.read_text()
        assert set(subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()) <= before
    assert not list((workspace.parent / "runtime/tfgpu").iterdir())


@pytest.mark.parametrize("first", ["by hand", pytest.param("by itself", marks=pytest.mark.nightly)])
def test_a_restart_during_a_restart(slow: tuple[Path, Path], workspace: Path, first: str) -> None:
    """Who asks while one is under way gets that one, or another after it: the kernel answers on its old channels."""
    seen, waits = slow
    with serving(workspace, "--KernelRestarter.time_to_dead=0.3") as server, ThreadPoolExecutor() as pages:
        kernel_id = call(server, "POST", "/api/kernels", {"name": "slow"})["id"]
        client = BlockingKernelClient(connection_file=str(workspace.parent / f"runtime/kernel-{kernel_id}.json"))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            client.execute_interactive("import os", timeout=60)
            waits.touch()
            seen.unlink()
            asked = []
            if first == "by hand":
                asked.append(pages.submit(restart, server, kernel_id))
            else:
                client.execute("os._exit(9)")
            until(seen.exists)
            asked += [pages.submit(restart, server, kernel_id) for _ in range(2)]
            time.sleep(1)  # they have been heard
            waits.unlink()
            assert [one.result(60) for one in asked] == [kernel_id] * len(asked), server.told()
            client.wait_for_ready(timeout=60)
            told: list[str] = []
            client.execute_interactive("print(6 * 7)", timeout=60, output_hook=lambda m: told.append(str(m["content"])))
            assert "42" in "".join(told)
        finally:
            client.stop_channels()
            waits.unlink(missing_ok=True)
            call(server, "DELETE", f"/api/kernels/{kernel_id}")
