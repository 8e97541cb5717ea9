"""The kernels that this process holds: they are its own, whatever has become of their run folders.

A run folder can go while its kernel runs (/run/user/UID does when its user logs out). Who is connected stays so, but
the folder says no more whose the kernel is: sweeps of this process leave alone what is held here, and each of them
makes the folder anew for the sweeps of others.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from .errors import TfgpuError
from .runfolder import KernelState, RunFolder

log = logging.getLogger(__name__)

_held: Final[dict[str, tuple[RunFolder, KernelState | None]]] = {}


def hold(container: str, run: RunFolder) -> None:
    """Note that this process has a kernel; its state file is there now."""
    _held[container] = (run, run.state())


def drop(container: str) -> None:
    """Note that this process has a kernel no more."""
    _held.pop(container, None)


def here(container: str) -> bool:
    """Whether this process has the kernel in a container."""
    return container in _held


def restore() -> None:
    """Make the folders anew that somebody has removed: without the sockets, by which nobody can come any more."""
    for run, state in list(_held.values()):
        if state is None or run.owner() is not None:
            continue
        with contextlib.suppress(OSError, TfgpuError):  # there may be no place for it before its user is back
            run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            run.take_over(lambda owner: True)
            run.write_state(state)
            log.warning(
                "The run folder of kernel %s was removed. The kernel goes on; no next server can take it up.",
                state.kernel_id,
            )
