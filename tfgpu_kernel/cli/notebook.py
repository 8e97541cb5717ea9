"""A notebook's file: read at a verb's start, and at its end not written over what somebody saved meanwhile."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nbformat

from .. import locking
from ..errors import ConfigError, NotebookChanged, TfgpuError
from ..lock.record import KEY, Lock
from ..rerun import cleared

_OF_A_RUN: Final = (KEY, "language_info", "widgets")
"""What runs and locks write into a notebook's metadata; the rest is its author's."""


@dataclass(frozen=True)
class Source:
    """A notebook's file as it was when it was read."""

    path: Path
    content: bytes

    def notebook(self) -> Any:
        """Return the notebook, a copy at each call.

        :raises ConfigError: when it isn't one.
        """
        try:
            return nbformat.reads(self.content.decode(), as_version=4)  # type: ignore[no-untyped-call]
        # What isn't a notebook at all fails in nbformat wherever it first misses something.
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError, nbformat.ValidationError) as error:
            raise ConfigError(
                f"The file {self.path} is no notebook.", "name a notebook (.ipynb).", str(error).partition("\n")[0]
            ) from error

    def lock(self) -> Any:
        """Return what the notebook has in its lock's place; None for nothing."""
        return self.notebook().metadata.get(KEY)

    def edited(self) -> bool:
        """Whether the file's cells or metadata are others by now, or it is gone; outputs don't count."""
        try:
            now = read(self.path)
        except ConfigError:
            return True
        return now.content != self.content and _authored(now.notebook()) != _authored(self.notebook())


def read(path: Path) -> Source:
    """Read a notebook.

    :raises ConfigError: when it isn't there, or isn't one.
    """
    try:
        source = Source(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"The notebook {path} can't be read.", "name a notebook (.ipynb) that is here.", str(error)
        ) from error
    source.notebook()
    return source


@dataclass(frozen=True)
class Written:
    """Where a notebook that ran went, and why that is not where it was to go; None where it is."""

    path: Path
    trouble: TfgpuError | None = None


def keep_result(source: Source, notebook: Any, output: Path, word: str) -> Written:
    """Write a notebook that ran; elsewhere, where it would go over edits that were made meanwhile, or can't be written.

    :param word: what was done with it, such as ``locked``.
    """
    if output.resolve() == source.path.resolve() and source.edited():
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        names = (output.with_name(f"{output.stem}.{word}{number}.ipynb") for number in numbers)
        beside = next(name for name in names if not name.exists())
        locking.write(notebook, beside)
        return Written(
            beside,
            NotebookChanged(
                f"{source.path} was changed while it ran, so it stays as it is now. What ran, {word}, is in {beside}.",
                f"take that file, or run the verb again for {source.path} as it is now.",
            ),
        )
    try:
        locking.write(notebook, output)
    except OSError as error:  # a disk that filled up meanwhile, say: hours of work are not lost by that
        spare = Path(tempfile.mkdtemp(prefix="tfgpu-")) / f"{output.stem}.{word}.ipynb"
        locking.write(notebook, spare)
        refused = f"{output} could not be written: {error.strerror}. What ran, {word}, is in {spare}."
        return Written(spare, ConfigError(refused, "move that file to where it shall be, when that can be written."))
    return Written(output)


def put_lock(source: Source, lock: Lock) -> None:
    """Put a lock into the notebook as its file is by now: cells that were edited meanwhile stay.

    :raises NotebookChanged: where its lock is another by now; nothing is written.
    """
    now = read(source.path)
    if now.lock() != source.lock():
        raise NotebookChanged(
            f"The lock of {source.path} was changed by something else meanwhile, so nothing was written.",
            "do it again.",
        )
    notebook = now.notebook()
    locking.put(notebook, lock)
    locking.write(notebook, source.path)


def _authored(notebook: Any) -> Mapping[str, Any]:
    """Return what of a notebook is its author's."""
    bare = cleared(notebook)
    for cell in bare.cells:
        cell.pop("id", None)  # before format 4.5 there is none, and each reading makes one up
    for name in _OF_A_RUN:
        bare.metadata.pop(name, None)
    return {"cells": bare.cells, "metadata": bare.metadata}
