"""What the system says of a file or a disk, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
