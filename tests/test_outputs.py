"""Where a verb's result is to go is judged before its work, which may take hours, begins."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest

from tfgpu_kernel import cli
from tfgpu_kernel.cli import outputs
from tfgpu_kernel.engine import find
from tfgpu_kernel.errors import ConfigError


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a notebook for a kernel of ours, on a machine without an engine."""
    folder = tmp_path / "share/kernels/tfgpu"
    folder.mkdir(parents=True)
    stanza = {"provisioner_name": "tfgpu-docker-provisioner", "config": {}}
    spec = {"argv": [], "display_name": "T", "language": "python", "metadata": {"kernel_provisioner": stanza}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(find, "_engines", {})  # each command has, and closes, one of its own
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "a.ipynb")  # type: ignore[no-untyped-call]
    return tmp_path / "a.ipynb"


@pytest.mark.parametrize(
    ("place", "why"), [("", "it is a folder"), ("a.ipynb/b.html", "is a file"), ("new/a.html", ""), ("a.ipynb", "")]
)
def test_what_can_not_be_written_is_told(notebook: Path, place: str, why: str) -> None:
    """A folder, and a file where a folder would have to be, are refused; a missing folder is made when it is needed."""
    path = notebook.parent / place
    if why:
        with pytest.raises(ConfigError, match=why):
            outputs.check(None, path)
        return
    outputs.check(None, path)
    assert not (notebook.parent / "new").exists()
    outputs.write(path, "text")
    assert path.read_text() == "text"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_one_may_not_write_is_told(tmp_path: Path) -> None:
    """A folder of somebody else's, and a file that is for reading only, are refused."""
    (tmp_path / "a").touch(0o400)
    for path in (tmp_path / "a", Path("/a.html")):
        with pytest.raises(ConfigError, match=r"may not write|not yours"):
            outputs.check(path)


@pytest.mark.parametrize(
    "words",
    [
        ("execute", "a.ipynb", "-o", "."),
        ("execute", "a.ipynb", "--json", "."),
        ("lock", "a.ipynb", "-o", "."),
        ("verify", "a.ipynb", "--html", "."),
        ("verify", "a.ipynb", "--json", "a.ipynb/b"),
        ("verify", "a.ipynb", "-o", "."),
        ("image", "save", "some/image", "-o", "."),
    ],
)
def test_it_is_judged_before_the_engine_is_asked(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Each verb says at once that its result couldn't be written."""
    monkeypatch.chdir(notebook.parent)
    assert cli.main(words) == 1
    assert "can't be written" in capsys.readouterr().err
