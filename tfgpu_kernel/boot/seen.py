"""Note which files a kernel reads, so that a lock can name its data. Reads by C++ (tf.data) are not seen."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, union-attr, method-assign"
# Python 3.6 runs this, mypy reads it.

import builtins
import io
import os
import sys

MOST = 10000
_seen = {}  # type: dict[str, None]


def begin():
    """Begin to note; a rerun calls it before its first cell."""
    if hasattr(sys, "addaudithook"):  # Python 3.8
        sys.addaudithook(_heard)
    else:
        plain = io.open

        def noting(file, mode="r", *arguments, **named):
            _note(file, mode)
            return plain(file, mode, *arguments, **named)

        builtins.open = noting
        io.open = noting


def files():
    """Return the paths of regular files that were read and are still there."""
    return [path for path in list(_seen) if os.path.isfile(path)]


def _heard(event, arguments):
    if event == "open":
        # os.open has no mode, but flags; those for reading alone end in two zero bits.
        path, mode, flags = arguments
        _note(path, mode if mode is not None else ("r" if flags & 3 == 0 else "w"))


def _note(path, mode):
    if len(_seen) < MOST and isinstance(path, (str, bytes)) and "r" in mode and "+" not in mode:
        _seen.setdefault(os.path.abspath(os.fsdecode(path)))
