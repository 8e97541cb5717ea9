"""What share of the processors a kernel has that is made ready: little beside a start, but not for ever."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tfgpu_kernel import pool
from tfgpu_kernel.pool import Pool
from tfgpu_kernel.runfolder import RunFolder


class Engine:
    """Notes what shares it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    async def update(self, container: str, **limits: Any) -> None:
        """Note the shares."""
        self.told.append((container, limits["CpuShares"]))


async def weighed(engine: Engine, *started: float, seconds: float) -> list[int]:
    """Weigh for so long, with starts at these times from now; return the shares that the engine was told."""
    kept, over = Pool(), asyncio.Event()
    kind: Any = SimpleNamespace(used=time.monotonic() - 60)
    kept._kinds["x",] = kind
    weigher = asyncio.create_task(kept._weigh(engine, [RunFolder(Path("/r/abc"))], over))  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    for when in started:
        loop.call_later(when, lambda: setattr(kind, "used", time.monotonic()))
    await asyncio.sleep(seconds)
    over.set()
    await weigher
    assert {name for name, _ in engine.told} <= {"tfgpu-abc"}
    return [shares for _, shares in engine.told]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(pool, "_BESIDE_SECONDS", 0.3)
    monkeypatch.setattr(pool, "_MODEST_SECONDS", 1.2)


def test_it_has_a_fair_share_when_nobody_starts() -> None:
    """With no start beside it, it gets its small share at once, and the engine is told once."""
    assert asyncio.run(weighed(Engine(), seconds=0.4)) == [256]


def test_start_beside_it_comes_first() -> None:
    """A start takes the share away again, for as long as its first cells are taken to run."""
    assert asyncio.run(weighed(Engine(), 0.2, seconds=0.9)) == [256, 2, 256]


def test_starts_all_the_time_do_not_starve_it() -> None:
    """After a while it keeps its share, whatever else is started."""
    starts = [number / 10 for number in range(20)]
    assert asyncio.run(weighed(Engine(), *starts, seconds=1.8)) == [256]
