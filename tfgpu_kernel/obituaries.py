"""The unasked ends of kernels in this process, for whoever wants to show why a kernel died.

The provisioner publishes an account when it has found out; the server extension listens.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .errors import TfgpuError

_KEPT: Final = 50
"""Enough for a browser that was away for a while; a crash loop must not fill the memory."""


@dataclass(frozen=True)
class Obituary:
    """Why a kernel ended that nobody had asked to."""

    kernel_id: str
    kernel_name: str
    notebook: str
    """Path of the notebook as the launch had it, or empty where there is none."""
    account: TfgpuError
    time: float = field(default_factory=time.time)
    """When it was found out, in seconds since the epoch."""


Listener = Callable[[Obituary], None]
"""Called on the thread that found out."""

_recent: deque[Obituary] = deque(maxlen=_KEPT)
_listeners: list[Listener] = []


def recent() -> tuple[Obituary, ...]:
    """Return the latest accounts, oldest first."""
    return tuple(_recent)


def listen(listener: Listener) -> Callable[[], None]:
    """Call ``listener`` for each account from now on; return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def publish(obituary: Obituary) -> None:
    """Make an account known."""
    _recent.append(obituary)
    for listener in tuple(_listeners):
        listener(obituary)
