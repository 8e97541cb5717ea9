"""A verb's notebook: what can't be one is refused, and what others saved meanwhile is never written over."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tfgpu_kernel import locking
from tfgpu_kernel.cli import notebook
from tfgpu_kernel.errors import ConfigError, NotebookChanged
from tfgpu_kernel.lock.record import KEY, Image, Lock, Software

LOCK = Lock(Image("a/b:1", (f"sha256:{'0' * 64}",), "linux", "amd64"), software=Software("3.11.2"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a notebook with one cell that was run."""
    cell = nbformat.v4.new_code_cell("1")  # type: ignore[no-untyped-call]
    made = nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    nbformat.write(made, tmp_path / "a.ipynb")  # type: ignore[no-untyped-call]
    return tmp_path / "a.ipynb"


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Save a notebook as somebody else does."""
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))


def source_of(path: Path) -> str:
    """Return the source of a notebook's cell."""
    return str(nbformat.read(path, as_version=4).cells[0].source)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"text"', "{}", '{"nbformat": 4, "nbformat_minor": 5}', '{"nbformat": 4, "cells": 5}', "\xff"],
)
def test_what_is_no_notebook_is_told(tmp_path: Path, text: str) -> None:
    """A file that is no notebook is said to be none, whatever it is instead; a missing one can't be read."""
    (tmp_path / "a.ipynb").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.ipynb is no notebook"):
        notebook.read(tmp_path / "a.ipynb")
    for path in (tmp_path, tmp_path / "b.ipynb"):
        with pytest.raises(ConfigError, match="can't be read"):
            notebook.read(path)


def test_an_edit_made_meanwhile_stays(path: Path) -> None:
    """What ran goes beside a notebook that was edited meanwhile, under a name that is free; outputs are no edit."""
    source = notebook.read(path)
    ran = source.notebook()
    change(path, lambda raw: raw["cells"][0].update(execution_count=5, outputs=[]))
    assert notebook.keep_result(source, ran, path, "locked").path == path
    change(path, lambda raw: raw["cells"][0].update(source="2"))
    beside = [notebook.keep_result(source, ran, path, "locked").path.name for _ in range(2)]
    assert beside == ["a.locked.ipynb", "a.locked-2.ipynb"]
    assert (source_of(path), source_of(path.with_name(beside[0]))) == ("2", "1")
    other = path.with_name("b.ipynb")
    written = notebook.keep_result(source, ran, other, "locked")
    assert written == notebook.Written(other), "nothing is written over elsewhere"


def test_what_can_not_be_written_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fills up during the run, say, its result is kept where there is room, and said to be there."""
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent))
    source = notebook.read(path)
    written = notebook.keep_result(source, source.notebook(), path / "no/folder.ipynb", "locked")
    assert source_of(written.path) == "1"
    assert str(written.path) in str(written.trouble)


def test_a_lock_is_put_into_the_notebook_as_it_is_now(path: Path) -> None:
    """Adding packages takes nothing of what was saved meanwhile; another lock that came meanwhile stays, too."""
    source = notebook.read(path)
    change(path, lambda raw: raw["cells"][0].update(source="2"))
    notebook.put_lock(source, LOCK)
    assert source_of(path) == "2"
    assert notebook.read(path).lock()["image"]["reference"] == "a/b:1"
    before = path.read_bytes()
    with pytest.raises(NotebookChanged, match="nothing was written"):
        notebook.put_lock(source, LOCK)
    assert path.read_bytes() == before


def test_writing_replaces_the_file_and_nothing_else(path: Path) -> None:
    """A link stays a link, the mode stays, a pipe is written to, and a failed write leaves the file as it was."""
    made = notebook.read(path).notebook()
    made.cells[0].source = "2"
    link = path.with_name("link.ipynb")
    link.symlink_to(path)
    path.chmod(0o640)
    locking.write(made, link)
    assert link.is_symlink()
    assert (source_of(path), path.stat().st_mode & 0o777) == ("2", 0o640)
    read, write = os.pipe()
    locking.write(made, Path(f"/dev/fd/{write}"))
    os.close(write)
    with os.fdopen(read) as pipe:
        assert json.load(pipe)["cells"][0]["source"] == ["2"]
    before = path.read_bytes()
    made.metadata[KEY] = object()
    with pytest.raises(TypeError):
        locking.write(made, path)
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.ipynb", "link.ipynb"]
