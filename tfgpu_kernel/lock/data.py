"""The files that a notebook reads: found after a run, hashed, and looked for on another machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ..errors import ConfigError
from ..mounts import CONTAINER_CACHE, CONTAINER_HOME
from ..runfolder import cache_folder
from .read import check_data_name
from .record import DataFile, Place

_KERAS: Final = (f"{CONTAINER_HOME}/.keras/datasets", f"{CONTAINER_CACHE}/keras-datasets")
_KERAS_FOLDER: Final = "keras-datasets"
_IGNORED: Final = (".ipynb", ".pyc")


@dataclass(frozen=True)
class State:
    """How a declared file is here: ``here``, ``missing`` or ``changed``."""

    file: DataFile
    path: Path
    state: str


def folder(place: Place, notebook: Path) -> Path:
    """Return where files of a place are on this machine."""
    return notebook.resolve().parent if place == "notebook" else cache_folder() / _KERAS_FOLDER


def locate(
    files: Iterable[str], notebook: Path, outside: Callable[[str], str | None]
) -> tuple[set[tuple[Place, str]], set[str]]:
    """Sort paths that a kernel read into those that a lock can name, and those that it can't.

    :param outside: where the host has a path of the container; None for the container's own files.
    """
    beside = notebook.resolve().parent
    known: set[tuple[Place, str]] = set()
    strange: set[str] = set()
    for text in files:
        path = PurePosixPath(text)
        keras = next((root for root in _KERAS if path.is_relative_to(root)), None)
        if text.endswith(_IGNORED) or any(part.startswith(".") for part in path.name.split("/")):
            continue
        if keras is not None:
            known.add(("keras-datasets", str(path.relative_to(keras))))
        elif not path.is_relative_to("/tfgpu") and (host := outside(text)) is not None:
            if Path(host).is_relative_to(beside):
                known.add(("notebook", str(Path(host).relative_to(beside))))
            else:
                strange.add(text)
    return known, strange


def record(names: Iterable[tuple[Place, str]], notebook: Path, before: float) -> tuple[DataFile, ...]:
    """Hash the files that were there ``before`` (seconds since the epoch): later ones the run has made.

    :raises ConfigError: for a name that no lock can hold.
    """
    found = []
    for place, name in sorted(names):
        path = folder(place, notebook) / name
        if not path.is_file() or path.stat().st_mtime >= before:
            continue
        if not check_data_name(name):
            raise ConfigError(f"The data file {name!r} has a name that no lock can hold.", "rename it.")
        found.append(DataFile(place, name, digest(path), path.stat().st_size))
    return tuple(found)


def states(files: Sequence[DataFile], notebook: Path) -> tuple[State, ...]:
    """Return how each declared file is here. Links that lead out of the place count as missing."""
    found = []
    for file in files:
        root = folder(file.place, notebook)
        path = root / file.name
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            found.append(State(file, path, "missing"))
        elif path.stat().st_size != file.size_bytes or digest(path) != file.sha256:
            found.append(State(file, path, "changed"))
        else:
            found.append(State(file, path, "here"))
    return tuple(found)


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            made.update(chunk)
    return made.hexdigest()
