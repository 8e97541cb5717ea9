"""How often a measurement takes its turn: so many rounds, or fewer where the time is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rounds:
    """Numbers of rounds, from 0; a round that has begun is finished."""

    count: int
    seconds: float = float("inf")
    began: float = field(default_factory=time.monotonic)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers while there is time."""
        for number in range(self.count):
            if number and time.monotonic() - self.began > self.seconds:
                return
            yield number

    def warmed_up(self) -> Iterator[int]:
        """Yield -1 before all others: a round that fills caches, and whose figures don't count."""
        yield -1
        yield from self
