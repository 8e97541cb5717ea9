"""Opens and reads files where somebody else may have put something else: no links, no pipes, no more than a limit.

A kernel's part of its run folder and the machine's shared memory folder are such places. What is read there is
still only what its maker wrote, and is to be judged as that.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def opened(path: Path) -> int:
    """Open a regular file for reading, and return the descriptor; never waits for a pipe's other end.

    :raises OSError: when there is none, or it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(f"{path} is not a regular file")


def read(path: Path, limit: int) -> bytes:
    """Return the first ``limit`` bytes of a regular file.

    :raises OSError: when there is none, or it is something else.
    """
    with os.fdopen(opened(path), "rb") as file:
        return file.read(limit)
