"""Files on a disk that may be full: written whole or not at all, and what the system says of it, in our words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigError, NoSpace, TfgpuError, is_full


@contextmanager
def told(what: str, elsewhere: str) -> Iterator[None]:
    """Turn an OSError of the block into the error that says what to do.

    :param what: what was being done, such as ``import the bundle x.zip``.
    :param elsewhere: how to do it in another place, such as a command line.
    :raises NoSpace: where the disk, or the user's share of it, is full.
    :raises ConfigError: where something can't be read or written for another reason.
    """
    try:
        yield
    except OSError as error:
        raise explained(error, what, elsewhere) from error


def explained(error: OSError, what: str, elsewhere: str) -> TfgpuError:
    """Return our error for one of the system's."""
    why = error.strerror or str(error)
    where = f" ({error.filename})" if error.filename else ""
    if is_full(error):
        return NoSpace(f"There is no room to {what}: {why}{where}.", f"make room there, or {elsewhere}.", str(error))
    return ConfigError(
        f"This machine could not {what}: {why}{where}.",
        f"see who may read and write there, or {elsewhere}.",
        str(error),
    )


def write(file: Path, text: str) -> None:
    """Write a file of the user's own whole or not at all; nothing half written stays beside it.

    :raises OSError: where the system can't.
    """
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
