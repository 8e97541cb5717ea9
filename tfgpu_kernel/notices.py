"""What a running kernel's user must be told: that it runs on the CPU, or that it lost its GPU.

The provisioner publishes a notice; the server extension listens.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .errors import TfgpuError

_KEPT: Final = 50


@dataclass(frozen=True)
class Notice:
    """One thing to be told of a kernel that goes on."""

    kernel_id: str
    kernel_name: str
    notebook: str
    """Path of the notebook as the launch had it, or empty where there is none."""
    account: TfgpuError
    time: float = field(default_factory=time.time)
    """In seconds since the epoch."""


Listener = Callable[[Notice], None]
"""Called on the thread that found out."""

_recent: deque[Notice] = deque(maxlen=_KEPT)
_listeners: list[Listener] = []


def recent() -> tuple[Notice, ...]:
    """Return the latest notices, oldest first."""
    return tuple(_recent)


def listen(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` for each notice from now on; return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def publish(notice: Notice) -> None:
    """Make a notice known."""
    _recent.append(notice)
    for listener in tuple(_listeners):
        listener(notice)
