"""The kernels that this process holds: they are its own, whatever has become of their run folders.

A run folder can go while its kernel runs (/run/user/UID does when its user logs out). Who is connected stays so, but
the folder says no more whose the kernel is: sweeps of this process leave alone what is held here, and each of them
makes the folder anew for the sweeps of others.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Final

from .errors import TfgpuError
from .runfolder import KernelState, RunFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    run: RunFolder
    state: KernelState
    engine: str


_held: Final[dict[str, _Held]] = {}


def hold(container: str, run: RunFolder) -> None:
    """Note that this process has a kernel; its state file is there now."""
    state = run.state() or KernelState("", "", "", "running", container, time.time())
    _held[container] = _Held(run, state, run.engine())


def drop(container: str) -> None:
    """Note that this process has a kernel no more."""
    _held.pop(container, None)


def here(container: str) -> bool:
    """Whether this process has the kernel in a container."""
    return container in _held


def restore() -> None:
    """Make the folders anew that somebody has removed: without the sockets, by which nobody can come any more."""
    for one in list(_held.values()):
        run = one.run
        if run.owner() is not None:
            continue
        with contextlib.suppress(OSError, TfgpuError):  # there may be no place for it before its user is back
            run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            run.take_over(lambda owner: True)
            run.write_state(one.state)
            run.note_engine(one.engine)
            log.warning(
                "The run folder of kernel %s was removed. The kernel goes on; no next server can take it up.",
                one.state.kernel_id,
            )
