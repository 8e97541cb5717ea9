"""Kernels that end with this process.

Some programs (jupyter console) ask a kernel to end and leave without waiting. A kernel of the host ends with its
parent; so do ours. A server that ends in good order has shut its kernels down before.
"""

from __future__ import annotations

import atexit

from . import lease
from .engine.base import Engine
from .runfolder import RunFolder

_owned: dict[str, tuple[Engine, RunFolder]] = {}


def own(engine: Engine, container: str, run: RunFolder) -> None:
    """Remember a kernel for the end of this process."""
    if not _owned:
        atexit.unregister(_end)
        atexit.register(_end)
    _owned[container] = (engine, run)


def disown(container: str) -> None:
    """Forget a kernel that has ended, or that a next server takes up."""
    _owned.pop(container, None)


def _end() -> None:
    while _owned:
        container, (engine, run) = _owned.popitem()
        engine.remove_now(container)
        for mark in lease.marks(run.path):
            engine.remove_now(mark)
        run.remove()
