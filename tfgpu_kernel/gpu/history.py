"""The last minutes of each device's use and memory: a ring in memory, so that a reload of the page loses nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SECONDS: Final = 600.0
"""How far back the history goes."""
_EARLY: Final = 0.8
"""Timers are never exact: a point that comes after this part of the pause still counts."""


@dataclass(frozen=True)
class Point:
    """One device at one moment; what the driver didn't tell is None."""

    use_percent: int | None
    used_bytes: int | None


@dataclass(frozen=True)
class Series:
    """One device's points as columns, which make a third of the JSON that records would."""

    use_percent: tuple[int | None, ...]
    used_bytes: tuple[int | None, ...]


class History:
    """Keeps points that are at least ``every`` seconds apart, for ten minutes.

    :param every: seconds; with the ten minutes it bounds what is kept, however often somebody looks.
    """

    def __init__(self, every: float, seconds: float = SECONDS) -> None:
        self._every = every
        self._seconds = seconds
        self._moments: deque[tuple[float, Mapping[str, Point]]] = deque(maxlen=round(seconds / (_EARLY * every)) + 1)

    def add(self, time: float, points: Mapping[str, Point]) -> None:
        """Note all devices at a time, in seconds since the epoch; a clock that was set back starts anew."""
        if self._moments and time < self._moments[-1][0]:
            self._moments.clear()
        if not self._moments or time - self._moments[-1][0] >= _EARLY * self._every:
            self._moments.append((time, points))
        while time - self._moments[0][0] > self._seconds:
            self._moments.popleft()

    def since(self, time: float) -> tuple[tuple[float, ...], dict[str, Series]]:
        """Return the times after ``time``, and of each device seen since then a point for each of them.

        A device that was not there at one of the times, or was lost, has None there.
        """
        moments = [moment for moment in self._moments if moment[0] > time]
        uuids = dict.fromkeys(uuid for _, points in moments for uuid in points)
        absent = Point(None, None)
        return tuple(when for when, _ in moments), {
            uuid: Series(
                tuple(points.get(uuid, absent).use_percent for _, points in moments),
                tuple(points.get(uuid, absent).used_bytes for _, points in moments),
            )
            for uuid in uuids
        }
