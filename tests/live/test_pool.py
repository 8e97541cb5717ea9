"""Kernels that wait finished until a notebook wants one, in real containers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tfgpu_kernel import quiet
from tfgpu_kernel.pool import Pool, Waiting

from .driving import kernel


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def keeping() -> AsyncIterator[Pool]:
    """Keep kernels ready as a server does."""
    kept = Pool()
    kept.start()
    try:
        yield kept
    finally:
        await kept.stop()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.05)


async def one_ready(kept: Pool) -> Waiting:
    """Return the kernel that waits."""
    await until(lambda: bool(kept.state()))
    return kept.state()[0]


def container_of(driven: object) -> str:
    """Return the id of a kernel's container."""
    return str(driven.manager.provisioner._kernel.container)  # type: ignore[attr-defined]


async def test_second_start_takes_the_kernel_that_waits(kernels: Path, workspace: Path) -> None:
    """The first start is cold and makes the pool keep one; the next takes that, and it runs cells like any other."""
    async with keeping() as kept:
        async with kernel(workspace):
            ready = await one_ready(kept)
        async with kernel(workspace, env={"JPY_SESSION_NAME": "x", "MINE": "1"}) as driven:
            assert container_of(driven) == ready.container
            told = await driven.run("import os; print(os.getcwd(), os.environ['MINE'], _dh[0], __session__)")
            assert told == f"{workspace} 1 {workspace} x\n"


async def test_restart_takes_the_kernel_that_waits(kernels: Path, workspace: Path) -> None:
    """After a restart the client's channels reach the kernel that waited, under the old key."""
    async with keeping() as kept, kernel(workspace) as driven:
        ready = await one_ready(kept)
        await driven.run("old = 1")
        await driven.restart()
        assert container_of(driven) == ready.container
        assert "NameError" in await driven.run("old")
        await one_ready(kept)
        await driven.restart()
        assert await driven.run("print(2)") == "2\n"
