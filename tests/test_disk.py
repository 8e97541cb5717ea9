"""A file is written whole or not at all, and a disk without room keeps no half of it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_lock_read import GOOD
from tfgpu_kernel import disk
from tfgpu_kernel.image import ensure
from tfgpu_kernel.lock import consent, record


def _agree(_folder: Path) -> None:
    consent.give(record.from_json(GOOD))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: disk.write(folder / "file", "new " * 100),
        lambda folder: ensure._keep(folder / "facts/image.json", "new " * 100),
        _agree,
    ],
    ids=["a file", "an image's facts", "a consent"],
)
def test_no_room(write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the system's own; what was there before is there, and nothing else."""
    monkeypatch.setattr(consent, "user_data_path", lambda *_: tmp_path)
    (tmp_path / "file").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # Python ignores the signal that comes with it
    try:
        with pytest.raises(OSError) as refused:
            write(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG
    assert [name for _, _, files in os.walk(tmp_path) for name in files] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_room(tmp_path: Path) -> None:
    """What is written replaces what was there, for its user alone."""
    (tmp_path / "file").write_text("old")
    disk.write(tmp_path / "file", "new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "new" and (tmp_path / "file").stat().st_mode & 0o077 == 0
