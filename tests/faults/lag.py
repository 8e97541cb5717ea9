"""How long an event loop is held up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

_BEAT_SECONDS: Final = 0.005
_AROUND_SECONDS: Final = 0.5
"""Measured before and after a fault, too: a beat in a hundred can be told of hundreds only."""
_MOST_SECONDS: Final = 0.05


@dataclass
class Lag:
    """What was measured, in seconds."""

    beats: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    """Of a thread's beats over the same time: what the machine itself holds up. A call that blocks the loop doesn't."""

    @property
    def p99(self) -> float:
        """The delay that one beat in a hundred exceeded."""
        return _p99(self.beats)

    def check(self) -> None:
        """Print what was measured; more than 50 ms is too much, unless a thread on the machine fares as badly."""
        load, machine = os.getloadavg()[0], _p99(self.beside)
        print(
            f"loop lag p99 {self.p99 * 1000:.1f} ms of {len(self.beats)} beats, a thread's {machine * 1000:.1f} ms, "
            f"load {load:.1f}",
            flush=True,
        )
        assert self.p99 < max(_MOST_SECONDS, 2 * machine)


def _p99(beats: list[float]) -> float:
    return sorted(beats)[int(len(beats) * 0.99)]


@contextlib.asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """Measure by how much a beat every 5 ms comes late while the block lasts, and half a second before and after."""
    lag = Lag()

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
            lag.beats.append(time.monotonic() - began - _BEAT_SECONDS)

    over = threading.Event()

    def beat_beside() -> None:
        while not over.is_set():
            began = time.monotonic()
            time.sleep(_BEAT_SECONDS)
            lag.beside.append(time.monotonic() - began - _BEAT_SECONDS)

    thread = threading.Thread(target=beat_beside, daemon=True)
    thread.start()
    task = asyncio.create_task(beat())
    try:
        await asyncio.sleep(_AROUND_SECONDS)
        yield lag
        await asyncio.sleep(_AROUND_SECONDS)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        over.set()
        thread.join()
