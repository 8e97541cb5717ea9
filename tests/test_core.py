"""Settings, owner, labels, connection and run folder: the rules that need no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tfgpu_kernel import bootfile, config, connection, deaths
from tfgpu_kernel.boot import codes
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Exit
from tfgpu_kernel.engine.translate import translated
from tfgpu_kernel.errors import (
    ConfigError,
    ContainerGone,
    EngineNotFound,
    EngineRefused,
    ImageNotFound,
    KernelDied,
    NoSpace,
    RunFolderNotShared,
)
from tfgpu_kernel.labels import KernelLabels
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.relapse import Relapses
from tfgpu_kernel.runfolder import RunFolder


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (1, 1),
        ("2", 2),
        ("all", "all"),
        ("none", 0),
        (["0", "GPU-a1"], ("0", "GPU-a1")),
        ("GPU-a,GPU-b", ("GPU-a", "GPU-b")),
        ("3", 3),
        ("device=3", ("3",)),
        ("device=0,1:0,GPU-a", ("0", "1:0", "GPU-a")),
        ("0,2", ("0", "2")),
    ],
)
def test_gpus_are_read(given: object, meant: object) -> None:
    """GPUs are a count, a word or a list."""
    assert config.gpus(given) == meant


@pytest.mark.parametrize("given", [-1, True, "some", [], ["0", "0"], ["x"], "device=", "device=all", "3,", 1.5, None])
def test_bad_gpus_are_refused(given: object) -> None:
    """What is no GPU request is refused with what is allowed."""
    with pytest.raises(ConfigError, match="Allowed"):
        config.gpus(given)


@pytest.mark.parametrize(
    ("given", "meant"), [("8g", 8 * 2**30), ("512m", 2**29), ("1.5GiB", 3 * 2**29), ("", None), (2**30, 2**30)]
)
def test_sizes_are_read_as_docker_writes_them(given: object, meant: int | None) -> None:
    """Sizes take Docker's notation; nothing means no limit."""
    assert config.size("memory", given, least=1) == meant


@pytest.mark.parametrize("name", ["host", "container:abc", "", "a b"])
def test_the_hosts_network_is_never_lent(name: str) -> None:
    """Neither the host's network nor another container's can be named."""
    with pytest.raises(ConfigError):
        config.network(name)


@pytest.mark.parametrize("text", ["--index-url=x", "a; rm -rf /", "pkg @ file:///etc", ""])
def test_packages_are_requirements_only(text: str) -> None:
    """Options, URLs and shell words are no packages."""
    with pytest.raises(ConfigError):
        config.package(text)


def test_owner_is_told_from_every_other_process() -> None:
    """This process lives; one that ended doesn't, nor one with our pid and another start."""
    me = Owner.current()
    assert Owner.parse(str(me)) == me
    assert me.alive
    assert not replace(me, started=me.started + 1).alive
    assert not replace(me, boot="another").alive
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert not replace(me, pid=child.pid).alive


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts /proc anew, and becomes another user")
@pytest.mark.parametrize("hidepid", [1, 2])
def test_an_owner_whom_proc_hides_lives(hidepid: int) -> None:
    """Where /proc hides other users' processes, a living one of theirs counts as alive, one that ended doesn't."""
    code = (
        "import os, sys; from tfgpu_kernel.owner import Owner\n"
        "os.setgroups([]); os.setresgid(4242, 4242, 4242); os.setresuid(4242, 4242, 4242)\n"
        "told = Owner.parse(sys.argv[1])\n"
        "print(Owner.of(told.pid), told.alive)"
    )
    hide = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$0" "$@"'
    other = subprocess.Popen(["sleep", "60"])
    asked = ["unshare", "--mount", "sh", "-c", hide, sys.executable, "-c", code, str(Owner.of(other.pid))]
    try:
        assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "None True\n"
    finally:
        other.kill()
        other.wait()
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "None False\n"


def test_foreign_labels_are_not_taken_for_ours() -> None:
    """A container with some of our labels, or broken ones, is nobody we know."""
    ours = KernelLabels(1, "o", "/r", "i", "c", ("GPU-1",)).to_docker()
    assert KernelLabels.from_docker(ours) == KernelLabels(1, "o", "/r", "i", "c", ("GPU-1",))
    for name in ours:
        assert KernelLabels.from_docker({key: text for key, text in ours.items() if key != name}) is None
    assert KernelLabels.from_docker({**ours, "io.tfgpu.uid": "root"}) is None


def test_both_sides_of_a_connection_name_the_same_sockets() -> None:
    """Host and kernel have the same key and sockets, each by its own path; the key is not in the repr."""
    link = connection.Connection("/host/io")
    host, inside = link.host_info(), json.loads(link.container_file())
    assert host["key"] == inside["key"].encode()
    assert host["ip"] == "/host/io/k"
    assert inside["ip"] == "/tfgpu/run/k"
    assert link.key not in repr(link)
    assert connection.fits("/" + "x" * 102)
    assert not connection.fits("/" + "x" * 105)


def test_run_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder 0700, connection file 0600, and a symlink that the kernel planted is replaced, not followed."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "rt"))
    run = RunFolder.new()
    run.make(os.geteuid(), os.getegid())
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run.io / "connection.json").symlink_to(victim)
    run.prepare(connection.Connection(str(run.io)), b"boot", os.geteuid(), os.getegid())
    assert victim.read_text() == "precious"
    assert (run.path.stat().st_mode & 0o777, run.io.stat().st_mode & 0o777) == (0o700, 0o700)
    assert (run.io / "connection.json").stat().st_mode & 0o777 == 0o600
    run.remove()
    assert not run.path.exists()


def test_one_of_many_takes_a_kernel_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processes that try at once to follow an owner that is gone, exactly one becomes the owner."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    run = RunFolder.new()
    run.make(os.geteuid(), os.getegid())
    gone = replace(Owner.current(), started=0)
    (run.path / "owner").write_text(str(gone))
    read, write = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os.read(read, 1)  # all start together
            os._exit(0 if run.take_over(lambda owner: owner == gone) else 1)
        children.append(child)
    os.write(write, b"x" * len(children))
    assert sorted(os.waitpid(child, 0)[1] for child in children) == [0, *[256] * 7]
    run.remove()
    assert not run.take_over(lambda owner: True)


def test_long_runtime_folder_gives_way_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Jupyter's folder is too long for sockets, another private one is taken."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    run = RunFolder.new()
    run.make(os.geteuid(), os.getegid())
    assert connection.fits(str(run.io))
    assert run.path.parent.stat().st_mode & 0o777 == 0o700
    run.remove()


@pytest.mark.parametrize(
    ("end", "log", "said"),
    [
        (Exit(137, oom_killed=True), "", "out of memory at 8.0 GiB (limit 8.0 GiB)"),
        (Exit(0, oom_killed=True), "", "exit code 0"),
        (Exit(137), "", "signal 9 (SIGKILL)"),
        (Exit(139), "", "signal 11 (SIGSEGV)"),
        (Exit(134), "2024-01-02 03:04: F external/x/dot.cc:42] Check failed: n > 0", "aborted: Check failed: n > 0"),
        (Exit(134), "F0000 00:00:17.1 12 dot.cc:42] No space for you", "aborted: No space for you"),
        (Exit(134), "free(): invalid pointer", "signal 6 (SIGABRT)"),
        (Exit(1), "ImportError", "exit code 1"),
        (Exit(87), "tfgpu: the files did not come", "never got its files from this server"),
    ],
)
def test_deaths_are_explained(end: Exit, log: str, said: str) -> None:
    """Each end has its cause in words; the out-of-memory flag alone, set for a child's death, is not believed."""
    error = deaths.explain(end, log, image="tf", memory=8 * 2**30)
    assert isinstance(error, KernelDied)
    assert said in str(error)
    assert log in str(error)


def test_a_kernel_relapses_when_it_dies_soon_and_alike() -> None:
    """Three short lives of one end are hopeless; a long life, another end or a start by hand breaks the row."""
    now = [0.0]

    def lives(relapses: Relapses, *, seconds: float = 1, cause: str = "exit 9", by_hand: bool = False) -> bool:
        relapses.started(by_hand=by_hand)
        now[0] += seconds
        relapses.died(cause)
        return relapses.hopeless

    ill = Relapses(lambda: now[0])
    assert [lives(ill) for _ in range(4)] == [False, False, True, True]
    assert not lives(ill, seconds=100)
    assert [lives(ill) for _ in range(2)] == [False, True]
    assert not lives(ill, cause="out of memory")
    lives(ill, cause="out of memory")
    assert not lives(ill, cause="out of memory", by_hand=True)


def test_an_unshared_run_folder_is_named() -> None:
    """A container that doesn't see the run folder tells of an engine that runs elsewhere."""
    assert isinstance(deaths.explain(Exit(codes.NO_RUN_FOLDER), "", image="i", memory=None), RunFolderNotShared)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write /x: no space left on device", NoSpace),
        ('invalid mount config for type "bind": bind source path does not exist: /a', RunFolderNotShared),
        ("manifest for tensorflow/tensorflow:nope not found", ImageNotFound),
        ("Cannot kill container: 28: Container 28 is not running", ContainerGone),  # Docker 20.10
        ("cannot kill container: 28: container 28 is not running", ContainerGone),  # Docker 26.1
        ("Container 28 is not running", ContainerGone),  # an exec
        ("container 28 is exited: can only kill running containers", ContainerGone),  # podman
        ("something nobody knows", EngineRefused),
    ],
)
def test_engine_texts_are_translated(text: str, kind: type[Exception]) -> None:
    """An engine's text becomes a class with a remedy, and stays below it."""
    from docker.errors import DockerException

    error = translated(DockerException(text), "unix:///x", "image")
    assert type(error) is kind
    assert error.remedy
    assert text in str(error)


def test_a_context_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that Docker doesn't know is no reason to take the usual socket: that is another engine."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(EngineNotFound, match="'typo', which DOCKER_CONTEXT names"):
        find.find({"DOCKER_CONTEXT": "typo"})
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    with pytest.raises(EngineNotFound, match="'gone', which is the current one"):
        find.find({})
    assert find.find({"DOCKER_CONTEXT": "typo", "DOCKER_HOST": "unix:///x"}) == "unix:///x"


def test_the_boot_program_is_the_same_in_every_process() -> None:
    """Made at another time, it is the same to the byte: a ready kernel is compared by it across processes."""
    first = bootfile.archive()
    bootfile.archive.cache_clear()
    time.sleep(2.1)  # a zip's times have steps of two seconds
    assert bootfile.archive() == first


def test_a_label_leads_to_the_folder_that_took_another_ones_place(tmp_path: Path) -> None:
    """The name on a container's label is followed to the folder as it is called now; one that is gone stays so."""
    old, fresh = RunFolder(tmp_path / "old"), RunFolder(tmp_path / "fresh")
    old.path.mkdir()
    fresh.path.mkdir()
    (fresh.path / "mine").touch()
    fresh.replace(old)
    assert RunFolder.named(str(fresh.path)) == RunFolder.named(str(old.path)) == old
    assert (old.path / "mine").exists()
    RunFolder.named(str(fresh.path)).remove()
    assert list(tmp_path.iterdir()) == []
    assert RunFolder.named(str(fresh.path)) == fresh


def test_a_folder_takes_a_place_where_nothing_is_any_more(tmp_path: Path) -> None:
    """A restart that failed leaves only the name of its folder, which a next one's takes."""
    fresh = RunFolder(tmp_path / "fresh")
    fresh.path.mkdir()
    assert fresh.replace(RunFolder(tmp_path / "old")).path.is_dir()


def test_what_a_cell_makes_in_the_run_folder_hinders_no_start(tmp_path: Path) -> None:
    """Folders in the place of sockets and of files: the next start has what it needs all the same."""
    run = RunFolder(tmp_path)
    made = connection.Connection(str(run.io))
    for name in ("kept", "connection.json", "boot.pyz", *(Path(socket).name for socket in made.sockets)):
        (run.io / name / "in").mkdir(parents=True)
    run.prepare(made, b"boot", os.geteuid(), os.getegid())
    assert sorted(path.name for path in run.io.iterdir()) == ["boot.pyz", "connection.json"]
    assert all(path.is_file() for path in run.io.iterdir())
