"""How long an event loop is held up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_BEAT_SECONDS = 0.005


@dataclass
class Lag:
    """What was measured, in seconds."""

    beats: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """The delay that one beat in a hundred exceeded."""
        return sorted(self.beats)[int(len(self.beats) * 0.99)]


@contextlib.asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """Measure by how much a beat every 5 ms comes late while the block lasts."""
    lag = Lag()

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
            lag.beats.append(time.monotonic() - began - _BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield lag
    finally:
        while not lag.beats:  # the block was over before the first
            await asyncio.sleep(_BEAT_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
