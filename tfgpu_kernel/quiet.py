"""Whether the machine has time for work that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LOOK_SECONDS: Final = 0.5
_QUIET: Final = 0.5
"""Below this share of busy processors there is time."""
PATIENCE_SECONDS: Final = 30.0
"""After this it is begun all the same: at the lowest weight, it takes only what others leave."""


async def wait(occupied: Callable[[], bool]) -> None:
    """Wait until the processors are mostly idle and ``occupied`` says no, but not for ever."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        before = _processors()
        await asyncio.sleep(_LOOK_SECONDS)
        after = _processors()
        total = after[0] - before[0]
        if not occupied() and (not total or (after[1] - before[1]) / total > 1 - _QUIET):
            return


def free_bytes() -> int:
    """Return how much main memory could be had without swapping (MemAvailable, see proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _processors() -> tuple[int, int]:
    """Return all ticks of all processors, and the idle ones of them (first line of /proc/stat)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]
