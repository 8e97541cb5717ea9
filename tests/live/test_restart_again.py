"""A restart that failed is no end: the next one works, on the channels that clients hold."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_pool import container_of, keeping, one_ready
from tfgpu_kernel import launches, provisioner, quiet
from tfgpu_kernel.errors import EngineNotAnswering, TfgpuError
from tfgpu_kernel.labels import RUN

from .driving import Driven, kernel


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
