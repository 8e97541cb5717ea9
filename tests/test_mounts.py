"""What a kernel may have mounted, judged before anything is created."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfgpu_kernel import mounts
from tfgpu_kernel.config import MountRequest
from tfgpu_kernel.errors import MountRefused


def planned(folder: Path, workspace: str, *further: MountRequest, sockets: tuple[str, ...] = ()) -> mounts.Mounts:
    """Plan the mounts of a kernel whose workspace is ``workspace`` and whose roots are ``folder``."""
    return mounts.plan(
        workspace=workspace,
        cwd=workspace,
        run_io=folder / "io",
        cache=folder / "cache",
        further=further,
        roots=(str(folder),),
        homes=(str(folder / "home"),),
        sockets=sockets,
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/etc/",
        "/etc/ssl",
        "/proc",
        "/proc/self",
        "/sys",
        "/dev",
        "/run",
        "/var/run",
        "//etc",
        "/tmp/../etc",
    ],
)
def test_the_machine_is_refused(tmp_path: Path, path: str) -> None:
    """No part of the machine's own system is mounted, however its path is written."""
    with pytest.raises(MountRefused):
        planned(tmp_path, path)


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    """A symlink to a refused folder is refused; Docker would follow it."""
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(MountRefused, match="/etc"):
        planned(tmp_path, str(tmp_path / "link"))


def test_a_mount_outside_the_roots_is_refused(tmp_path: Path) -> None:
    """A further mount must lie in one of the roots, also when a link inside them leads out."""
    inside, outside = tmp_path / "roots", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    with pytest.raises(MountRefused, match="none of the folders"):
        planned(inside, str(inside), MountRequest(str(inside / "link"), "/data", read_only=True))


def test_the_socket_is_never_lent(tmp_path: Path) -> None:
    """A folder that holds the engine's socket is refused."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/docker.sock").touch()
    with pytest.raises(MountRefused, match="socket"):
        planned(tmp_path, str(tmp_path), sockets=(str(tmp_path / "run/docker.sock"),))


def test_dot_entries_of_a_home_are_covered(tmp_path: Path) -> None:
    """Each dot-entry of a home in what is mounted is covered, also where one is a link within it."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".netrc").touch()
    (home / "dotfiles").mkdir()
    (home / ".config").symlink_to(home / "dotfiles")
    (home / "visible").touch()
    covers = {(cover.target, cover.is_folder) for cover in planned(tmp_path, str(home)).covers}
    assert covers == {(f"{home}/.ssh", True), (f"{home}/.netrc", False), (f"{home}/dotfiles", True)}


def test_inside_and_outside_are_inverse(tmp_path: Path) -> None:
    """A path of the workspace has the same name on both sides; one of the image's own has none outside."""
    (tmp_path / "work").mkdir()
    plan = planned(tmp_path, str(tmp_path / "work"))
    path = str(tmp_path / "work/a/b.py")
    assert plan.inside(path) == path
    assert plan.outside(path) == path
    assert plan.outside("/usr/lib/os.py") is None
    assert plan.outside(str(tmp_path / "work/../other")) is None


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "in", "out", "link", "", "etc", "home"]), max_size=8))
def test_generated_paths_never_escape(tmp_path: Path, parts: list[str]) -> None:
    """Whatever a path is made of, what is mounted for it lies in the roots."""
    roots = tmp_path / "in"
    (roots / "home").mkdir(parents=True, exist_ok=True)
    (tmp_path / "out").mkdir(exist_ok=True)
    if not (roots / "link").is_symlink():
        (roots / "link").symlink_to(tmp_path / "out")
    asked = str(roots) + "/" + "/".join(parts)
    try:
        plan = planned(roots, str(roots), MountRequest(asked, "/data", read_only=True))
    except MountRefused:
        return
    source = next(bind.source for bind in plan.binds if bind.target == "/data")
    assert os.path.commonpath([os.path.realpath(source), str(roots)]) == str(roots)
