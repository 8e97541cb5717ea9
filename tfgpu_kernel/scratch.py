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
_BESIDE: Final = "beside"
_BESIDE_PREFIX: Final = ".tfgpu-work-"
_YOUNG_SECONDS: Final = 60.0
"""One that says nobody's may be about to say whose; later, its process was killed in between."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder in the machine's place for them; it goes with the block, or with :func:`sweep`."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as made:
        Path(made, _OWNER).write_text(str(Owner.current()))
        yield Path(made)


@contextlib.contextmanager
def beside(place: Path) -> Iterator[Path]:
    """Make a folder in another, on whose file system the work's outcome is to be; it goes as :func:`folder` does.

    No sweep could look for it everywhere, so one in the usual place says where it is.
    """
    with folder() as known:
        made = place.resolve() / known.name.replace(_PREFIX, _BESIDE_PREFIX)
        (known / _BESIDE).write_text(str(made))  # before it is made: a kill in between leaves nothing
        made.mkdir(mode=0o700)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def sweep() -> None:
    """Remove this user's folders whose processes are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            status = path.lstat()
            if status.st_uid == os.geteuid() and _ended(path, status.st_mtime):
                _remove_beside(path)
                shutil.rmtree(path, ignore_errors=True)


def _remove_beside(path: Path) -> None:
    with contextlib.suppress(OSError):
        other = Path((path / _BESIDE).read_text())
        if other.name.startswith(_BESIDE_PREFIX) and other.lstat().st_uid == os.geteuid():
            shutil.rmtree(other, ignore_errors=True)


def _ended(path: Path, changed: float) -> bool:
    try:
        owner = Owner.parse((path / _OWNER).read_text())
    except OSError:
        owner = None
    return not owner.alive if owner is not None else time.time() - changed > _YOUNG_SECONDS
