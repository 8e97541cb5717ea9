"""Folders for the length of a piece of work, that are known as ours when their process was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .owner import Owner

_PREFIX: Final = "tfgpu-scratch-"
_OWNER: Final = "owner"
_YOUNG_SECONDS: Final = 60.0
"""One that says nobody's may be about to say whose; later, its process was killed in between."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder in the machine's place for them; it goes with the block, or with :func:`sweep`."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as made:
        Path(made, _OWNER).write_text(str(Owner.current()))
        yield Path(made)


def sweep() -> None:
    """Remove this user's folders whose processes are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            status = path.lstat()
            if status.st_uid == os.geteuid() and _ended(path, status.st_mtime):
                shutil.rmtree(path, ignore_errors=True)


def _ended(path: Path, changed: float) -> bool:
    try:
        owner = Owner.parse((path / _OWNER).read_text())
    except OSError:
        owner = None
    return not owner.alive if owner is not None else time.time() - changed > _YOUNG_SECONDS
