"""The launches under way in this process, for whoever wants to show or cancel them.

The provisioner enters a launch here and updates its step; the server extension listens and passes the
steps on to browsers. Nothing here knows either of them. All of it happens on one thread a launch: the
event loop that runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .progress import Step


@dataclass
class Launch:
    """One start or restart of a kernel, from the request to the answer."""

    kernel_id: str
    kernel_name: str
    notebook: str
    """Absolute path of the notebook on the host, or empty where there is none."""
    restart: bool
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    step: Step | None = None
    notices: list[str] = field(default_factory=list)
    """Sentences to read that came by: warnings, and why this image."""
    preset: str = ""
    """The preset that one of them advises to take instead."""
    error: Exception | None = None
    task: asyncio.Task[object] | None = None
    """What runs it; None once it is over."""
    loop: asyncio.AbstractEventLoop | None = None

    def cancel(self) -> bool:
        """Ask the launch to stop and clean up; False when it is over already. Any thread may call."""
        if self.task is None or self.loop is None or self.task.done():
            return False
        self.loop.call_soon_threadsafe(self._stop)
        return True

    def _stop(self) -> None:
        """Stop the task, unless the launch is over by now: the task goes on in jupyter_client, which undoes nothing."""
        if self.task is not None:
            self.task.cancel()


Listener = Callable[[Launch], None]
"""Called on the launching loop's thread after each change of a launch."""

_current: dict[str, Launch] = {}
_listeners: list[Listener] = []


def current() -> tuple[Launch, ...]:
    """Return the launches under way, oldest first."""
    return tuple(_current.values())


def find(kernel_id: str) -> Launch | None:
    """Return the launch of a kernel, or None where none is under way."""
    return _current.get(kernel_id)


def listen(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` after each change from now on; return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def enter(launch: Launch) -> None:
    """Make a launch known, with the task that now runs it."""
    launch.task = asyncio.current_task()
    launch.loop = asyncio.get_running_loop()
    _current[launch.kernel_id] = launch
    _tell(launch)


def advance(launch: Launch, step: Step) -> None:
    """Note the step that a launch is at."""
    launch.step = step
    if step.notice and step.text not in launch.notices:
        launch.notices.append(step.text)
        launch.preset = launch.preset or step.preset
    _tell(launch)


def leave(launch: Launch, step: Step, error: Exception | None = None) -> None:
    """Note how a launch ended, and forget it."""
    launch.step = step
    launch.error = error
    launch.task = None
    _current.pop(launch.kernel_id, None)
    _tell(launch)


def _tell(launch: Launch) -> None:
    for listener in tuple(_listeners):
        listener(launch)
