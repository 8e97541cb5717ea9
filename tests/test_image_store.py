"""What a clean-up of images takes, and what it leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tfgpu_kernel import labels
from tfgpu_kernel.cli import parser, prune
from tfgpu_kernel.engine.base import ContainerRecord, ImageRecord
from tfgpu_kernel.image import reserved, store
from tfgpu_kernel.image.store import Listed


def image(name: str, *layers: str, kind: str = "", size: int = 0) -> ImageRecord:
    """Return an image of these layers."""
    marks = {labels.IMAGE_KIND: kind} if kind else {}
    return ImageRecord(name, (name,), (), layers, "amd64", "linux", size, "", (), (), marks)


def listed(name: str, kind: str, used: int = 0, locked: tuple[str, ...] = ()) -> Listed:
    """Return an image as it is listed."""
    return Listed(name, kind, image(name), used, locked)


def test_only_what_nobody_needs_goes() -> None:
    """Of ours, what a container uses or a lock needs stays, and is told; others' images are not looked at."""
    found = [
        listed("free", "completed"),
        listed("used", "completed", used=1),
        listed("locked", "completed", locked=("/nb.ipynb",)),
        listed("built", "built"),
        listed("theirs", "pulled"),
    ]
    assert [one.reference for one in store.prunable(found, built=False)] == ["free"]
    assert [one.reference for one in store.prunable(found, built=True)] == ["free", "built"]
    assert [one.why_kept for one in store.ours(found, built=False)] == [
        "", "a container uses it", "the lock of /nb.ipynb needs it",
    ]  # fmt: skip


def test_what_is_freed_is_what_no_other_image_has() -> None:
    """The layers that a remaining image shares are not counted."""
    base = Listed("base", "pulled", image("base", "a", size=1000), 0)
    made = Listed("made", "completed", image("made", "a", "b", size=1300), 0)
    assert store.freed_bytes([made], [base, made]) == 300


def test_locks_are_looked_up_when_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is needed as long as a notebook that ran in it is there and locked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    record, notebook = image("made", "a", "b"), tmp_path / "nb.ipynb"
    reserved.note(record, str(notebook))
    reserved.note(record, "untitled")
    assert reserved.needed_by(record) == ()
    notebook.write_text(json.dumps({"metadata": {"tfgpu": {"image": {}}}}))
    assert reserved.needed_by(record) == (str(notebook),)
    assert reserved.needed_by(image("other", "c")) == ()
    notebook.write_text(json.dumps({"metadata": {}}))
    assert reserved.needed_by(record) == ()


class Machine:
    """An engine that has three images of ours and a container of one."""

    def __init__(self) -> None:
        self.has = [image(name, name, kind="completed") for name in ("free", "used", "locked")]
        self.removed: list[str] = []

    async def list(self, wanted: dict[str, str]) -> list[ContainerRecord]:
        """Return the container."""
        return [ContainerRecord("c", "c", "used", "exited", {}, 0.0)]

    async def images(self, wanted: dict[str, str]) -> list[ImageRecord]:
        """Return all images."""
        return self.has

    async def remove_image(self, name: str, *, force: bool = False) -> None:
        """Note what goes."""
        self.removed.append(name)


def test_even_before_uninstalling_a_lock_keeps_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``prune --all`` takes no image that a container uses or a lock needs, and says why."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine, notebook = Machine(), tmp_path / "nb.ipynb"
    reserved.note(engine.has[2], str(notebook))
    notebook.write_text(json.dumps({"metadata": {"tfgpu": {"image": {}}}}))
    assert asyncio.run(prune.remove_images(engine))  # type: ignore[arg-type]
    assert engine.removed == ["free"]
    told = capsys.readouterr().out
    assert "Kept used: a container uses it." in told
    assert f"Kept locked: the lock of {notebook} needs it." in told


def test_who_is_asked_hears_whose_locks_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The memory of locks is each user's, so before images go it is said that others' locks weren't looked up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine = Machine()
    arguments = parser(["image"]).parse_args(["image", "prune", "--dry-run"])
    assert asyncio.run(arguments.image_verb(arguments, engine)) == 0
    assert reserved.OTHERS in capsys.readouterr().out
    engine.has = []
    assert asyncio.run(arguments.image_verb(arguments, engine)) == 0
    assert reserved.OTHERS not in capsys.readouterr().out
