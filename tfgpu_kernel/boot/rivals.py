"""Packages that cells find elsewhere on sys.path than what was imported ahead was found."""

import os
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from typing import Any, Iterable, Optional


def place(package: str) -> Optional[str]:
    """Return the file that an import of a package would read now; None where sys.path has none.

    A folder without a file of its own (a namespace) is none: it could be anything.
    """
    spec = PathFinder.find_spec(package)
    return spec.origin if spec is not None and spec.has_location else None


def other(package: str, before: Optional[str]) -> str:
    """Return the file that an import would read now instead of the one before; empty where it is the same."""
    now = place(package)
    if now is None or now == before:
        return ""
    try:
        return "" if before is not None and os.path.samefile(now, before) else now
    except OSError:
        return now


def native(files: Iterable[Any]) -> bool:
    """Whether there is native code among files."""
    return any(str(file).endswith(tuple(EXTENSION_SUFFIXES)) for file in files)


def folder(file: str) -> str:
    """Return the folder of sys.path that a package's file belongs to."""
    above = os.path.dirname(file)
    return os.path.dirname(above) if os.path.basename(file).startswith("__init__.") else above


def native_there(file: str) -> bool:
    """Whether the package with this file has native code."""
    if not os.path.basename(file).startswith("__init__."):
        return native([file])
    return any(native(names) for _, _, names in os.walk(os.path.dirname(file)))
