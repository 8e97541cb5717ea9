"""What is read where others may write: nobody waits for a pipe, follows a link or reads without end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from tfgpu_kernel import launch, wary
from tfgpu_kernel.ahead import noted
from tfgpu_kernel.boot.warm import COLD_FILE
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.identity import Identity
from tfgpu_kernel.launch import Request
from tfgpu_kernel.runfolder import RunFolder


def replaced(path: Path, kind: str) -> None:
    """Put something at the path that is no regular file."""
    if kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "absent"])
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    """A link, a pipe without another end, a folder and nothing at all are errors at once."""
    replaced(tmp_path / "it", kind)
    with pytest.raises(OSError):
        wary.read(tmp_path / "it", 10)


def test_no_more_than_the_limit(tmp_path: Path) -> None:
    """A long file is read up to the limit."""
    (tmp_path / "it").write_bytes(b"x" * 100)
    assert wary.read(tmp_path / "it", 10) == b"x" * 10


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "absent"])
def test_what_a_kernel_leaves_in_its_folder_holds_nobody_up(tmp_path: Path, kind: str) -> None:
    """A cell may put anything in the place of the file that names variables set too late."""
    run = RunFolder(tmp_path)
    run.io.mkdir()
    replaced(run.io / COLD_FILE, kind)
    assert noted(run, "") == frozenset()
    if kind == "absent":
        (run.io / COLD_FILE).write_bytes(b"late TF_X\n\xff\n" + b" " * 2**20 + b"\nlate TF_Y\n")
        assert ("late", "TF_X") in noted(run, "")
        assert ("late", "TF_Y") not in noted(run, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders for others")
def test_a_cache_that_becomes_a_link_gives_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that swaps a new cache folder for a link before it is given away gains nothing by it."""
    precious = tmp_path / "precious"
    precious.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Path.mkdir

    def swapped(path: Path, *arguments: Any, **named: Any) -> None:
        made(path, *arguments, **named)
        if path.name == "cuda":
            path.rmdir()
            path.symlink_to(precious)

    monkeypatch.setattr(Path, "mkdir", swapped)
    with pytest.raises(OSError):
        launch.prepare_cache(Identity(4242, 4242, (), "somebody", 4242, 4242))
    assert precious.stat().st_uid == 0


def test_the_home_of_a_user_whom_no_list_names_is_covered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory service may not list its users; the kernel's user's home is known all the same."""
    home = tmp_path / "home/alice"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("pwd.getpwall", list)
    entry = type("Entry", (), {"pw_dir": str(home)})

    def known(uid: int) -> object:
        if uid != 4242:
            raise KeyError(uid)
        return entry

    monkeypatch.setattr("pwd.getpwuid", known)
    who = Identity(4242, 4242, (), "alice", 4242, 4242)
    request = Request("id", "tfcpu", str(home), str(home), {})
    engine = cast(Engine, DockerEngine("unix:///nowhere/docker.sock"))
    planned = launch.plan_mounts(request, KernelConfig(mount_roots=(str(tmp_path),)), engine, tmp_path / "cache", who)
    assert [cover.target for cover in planned.covers] == [f"{home}/.ssh"]
