"""What the command line says of words that are plausible and wrong: one sentence with its remedy, never a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import nbformat
import pytest

from tfgpu_kernel import cli
from tfgpu_kernel.cli import outputs
from tfgpu_kernel.engine import find


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where the command runs, on a machine without an engine."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(find, "_engines", {})  # each command has, and closes, one of its own
    monkeypatch.chdir(tmp_path)
    nbformat.write(nbformat.v4.new_notebook(), "a.ipynb")  # type: ignore[no-untyped-call]
    Path("list.ipynb").write_text("[]")
    Path("folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("image", "build", "--cpu", "--constraint", "missing.txt"), "The constraints missing.txt can't be read"),
        (("image", "build", "--cpu", "--constraint", "folder"), "The constraints folder can't be read"),
        (("image", "pull", "TensorFlow/tensorflow"), "so tensorflow/tensorflow; only a tag may have capitals"),
        (("export", "typo.ipynb"), "The notebook typo.ipynb can't be read"),
        (("export", "a.ipynb"), "The notebook a.ipynb has no lock"),
        (("export", "list.ipynb"), "The file list.ipynb is no notebook"),
        (("exec", "-it", "abc"), "There is no terminal here"),
    ],
)
def test_what_is_wrong_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """Each is told by its own cause."""
    assert cli.main(words) == 1
    assert said in capsys.readouterr().err


def test_the_systems_own_errors_name_the_file(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw of a file is told with the file's name and the system's word for it."""

    def refuse(*paths: Path) -> None:
        raise PermissionError(13, "Permission denied", "/some/where")

    monkeypatch.setattr(outputs, "check", refuse)
    assert cli.main(["image", "save", "any", "-o", "a.tar"]) == 1
    said = capsys.readouterr().err
    assert "/some/where can't be used: Permission denied." in said
    assert "What to do:" in said


def test_a_full_disk_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a disk is full, the remedy is room on it, not rights."""

    def full(*paths: Path | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "there"))

    monkeypatch.setattr(outputs, "check", full)
    notebook = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), notebook)
    assert cli.main(["execute", str(notebook), "-o", str(tmp_path / "there")]) == 1
    told = capsys.readouterr().err
    assert f"There is no room for {tmp_path}/there: No space left on device." in told
    assert "What to do: make room there" in told
