"""Whether a kernel that died would only die again: then starting it by itself once more helps nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

SAME_DEATHS: Final = 3
SOON_SECONDS: Final = 60.0
"""So many deaths in a row of one cause, each within this of the start, and the next would be the same."""


class Relapses:
    """The deaths of one kernel since somebody started it by hand."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._causes: list[str] = []

    def started(self, *, by_hand: bool) -> None:
        """Note a start; one by hand begins anew."""
        self._began = self._clock()
        if by_hand:
            self._causes.clear()

    def died(self, cause: str) -> None:
        """Note a death and its cause."""
        if self._clock() - self._began > SOON_SECONDS:
            self._causes.clear()
        self._causes.append(cause)

    @property
    def hopeless(self) -> bool:
        """Whether the last lives were short, and ended alike."""
        last = self._causes[-SAME_DEATHS:]
        return len(last) == SAME_DEATHS and len(set(last)) == 1
