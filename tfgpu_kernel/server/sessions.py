"""Sessions that outlive the server, so that a notebook finds the kernel it had.

jupyter_server keeps its sessions in memory unless told otherwise, and forgets one whose kernel it doesn't
have, so two servers must never share a file: each root folder has numbered files, and a server takes the first
that no other holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jupyter_core.paths import jupyter_runtime_dir

from ..adopt import Adopted
from ..handover import root_of
from .records import contents_path

_IN_MEMORY: Final = ":memory:"
_MOST: Final = 16
"""Servers of one user with the same root folder; beyond that sessions stay in memory."""


def persist(manager: Any, root: str) -> int | None:
    """Keep a server's sessions in a file, unless it is told where to keep them.

    Return the lock's descriptor, which must stay open as long as the server uses the file.
    """
    if getattr(manager, "database_filepath", "") != _IN_MEMORY or manager._connection is not None:
        return None
    folder = Path(jupyter_runtime_dir()) / "tfgpu-sessions"
    name = hashlib.sha256(root_of(root).encode()).hexdigest()[:16]
    for number in range(_MOST):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / f"sessions-{name}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return None  # a disk that can't be written: sessions in memory, as ever
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        file = folder / f"sessions-{name}-{number}.db"
        _private(file)
        manager.database_filepath = str(file)
        return lock
    return None


def _private(file: Path) -> None:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


async def complete(manager: Any, adopted: Sequence[Adopted], root: str) -> None:
    """Give each adopted kernel a session, where the one it had is not known any more."""
    known = {session["kernel"]["id"] for session in await manager.list_sessions()}
    for kernel in adopted:
        path = contents_path(kernel.state.notebook, root_of(root))
        if kernel.kernel_id in known or not path or path.startswith("/"):
            continue
        await manager.save_session(
            manager.new_session_id(),
            path=path,
            name=os.path.basename(path),
            type="notebook",
            kernel_id=kernel.kernel_id,
        )
