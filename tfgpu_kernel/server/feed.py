"""What happened to kernels lately, kept for browsers that come late, and hinted to those that listen."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from .. import launches, notices, obituaries
from ..launches import Launch
from ..notices import Notice
from ..obituaries import Obituary
from .records import Death, LaunchState, death, launch_state

LAUNCH_EVENT: Final = "urn:tfgpu-kernel:launch:v1"
DEATH_EVENT: Final = "urn:tfgpu-kernel:death:v1"
NOTICE_EVENT: Final = "urn:tfgpu-kernel:notice:v1"
_KEPT: Final = 50
_PAUSE_SECONDS: Final = 0.25
"""Least time between two hints of one launch's same phase: a pull tells of each layer many times a second."""

Emit = Callable[[str, dict[str, str]], None]
"""Takes a schema id and the event's data; called on the server's loop."""


class Feed:
    """Listens to launches and deaths.

    :param root: the server's root folder, for the paths of notebooks.
    :param loop: the server's event loop; a launch may run in another thread's.
    """

    def __init__(self, root: str, loop: asyncio.AbstractEventLoop, emit: Emit) -> None:
        self._root = root
        self._loop = loop
        self._emit = emit
        self._ended: deque[LaunchState] = deque(maxlen=_KEPT)
        self._told: dict[str, tuple[str, float]] = {}
        self._stops = [launches.listen(self._launch_changed), obituaries.listen(self._kernel_died)]
        self._stops.append(notices.listen(self._noticed))

    def launches(self) -> list[LaunchState]:
        """Return the launches that ended lately, then those under way, oldest first."""
        current = [launch_state(launch, self._root) for launch in launches.current()]
        return [*self._ended, *current]

    def deaths(self) -> list[Death]:
        """Return the latest deaths, oldest first."""
        return [death(obituary, self._root) for obituary in obituaries.recent()]

    def notices(self) -> list[Death]:
        """Return what running kernels' users must be told, oldest first; the same record as a death's."""
        return [death(notice, self._root) for notice in notices.recent()]

    def close(self) -> None:
        """Listen no more."""
        for stop in self._stops:
            stop()
        self._stops = []

    def _launch_changed(self, launch: Launch) -> None:
        over = launches.find(launch.kernel_id) is not launch
        state = launch_state(launch, self._root, time.time() if over else None)
        self._loop.call_soon_threadsafe(self._note, state)

    def _note(self, state: LaunchState) -> None:
        phase, when = self._told.get(state.kernel_id, ("", 0.0))
        if state.ended is not None:
            self._ended.append(state)
            self._told.pop(state.kernel_id, None)
        elif state.phase == phase and time.monotonic() - when < _PAUSE_SECONDS:
            return
        else:
            self._told[state.kernel_id] = (state.phase, time.monotonic())
        self._emit(LAUNCH_EVENT, {"kernel_id": state.kernel_id, "phase": state.phase})

    def _kernel_died(self, obituary: Obituary) -> None:
        data = {"kernel_id": obituary.kernel_id}
        self._loop.call_soon_threadsafe(self._emit, DEATH_EVENT, data)

    def _noticed(self, notice: Notice) -> None:
        data = {"kernel_id": notice.kernel_id}
        self._loop.call_soon_threadsafe(self._emit, NOTICE_EVENT, data)
