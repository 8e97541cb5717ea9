"""What a sweep takes and what it spares: kernels whose folders are gone, that others hold, or of another engine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests import left_behind
from tfgpu_kernel import handover, held, lease, runfolder
from tfgpu_kernel import sweep as module
from tfgpu_kernel.cli import kernels, ps
from tfgpu_kernel.engine.base import ContainerRecord, ImageRecord
from tfgpu_kernel.errors import EngineNotFound
from tfgpu_kernel.labels import KIND, KIND_KERNEL, KernelLabels
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.runfolder import KernelState, RunFolder

GONE = replace(Owner.current(), started=0)
STATE = KernelState("k", "tfgpu", "", "running", "box", 0.0)


class Engine:
    """Has the containers that it is given, until they are removed."""

    def __init__(self, *boxes: ContainerRecord, address: str = "unix:///a") -> None:
        self.address = address
        self.boxes = list(boxes)

    async def list(self, labels: Mapping[str, str]) -> Sequence[ContainerRecord]:
        """Return the kernels' containers."""
        return self.boxes if labels.get(KIND) == KIND_KERNEL else []

    async def images(self, labels: Mapping[str, str]) -> Sequence[ImageRecord]:
        """Return nothing."""
        return ()

    async def remove(self, container: str) -> None:
        """Remove one."""
        self.boxes = [box for box in self.boxes if box.id != container]

    def sweep(self) -> list[str]:
        """Sweep; return what is left here."""
        asyncio.run(module.sweep(self))  # type: ignore[arg-type]
        return [box.id for box in self.boxes]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep run folders, leases and folders of work in a place of the test's own; return that of the run folders."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(runfolder, "roots", lambda: (tmp_path / "tfgpu",))
    monkeypatch.setattr(lease, "FOLDER", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(held, "_held", {})
    (tmp_path / "tfgpu").mkdir()
    return tmp_path / "tfgpu"


def box(run: Path, owner: Owner) -> ContainerRecord:
    """Return a running container that names this run folder and maker."""
    labels = KernelLabels(os.geteuid(), str(owner), str(run), "i", "c").to_docker()
    return ContainerRecord("box", "tfgpu-x", "i", "running", labels, 0.0)


def folder(path: Path, owner: Owner) -> RunFolder:
    """Make a run folder of a kernel that runs."""
    run = RunFolder(path)
    run.io.mkdir(parents=True)
    (path / "owner").write_text(str(owner))
    run.write_state(STATE)
    return run


@pytest.mark.parametrize("maker", [Owner.current(), GONE])
def test_a_kernel_that_is_held_here_outlives_its_run_folder(root: Path, maker: Owner) -> None:
    """Whoever made it: started here or taken up from one that is gone. The folder is there again, and says whose."""
    held.hold("box", folder(root / "run", Owner.current()))
    RunFolder(root / "run").remove()
    engine = Engine(box(root / "run", maker))
    assert engine.sweep() == ["box"]
    assert RunFolder(root / "run").owner_alive()
    assert RunFolder(root / "run").state() == STATE


def test_a_kernel_whose_folder_was_made_again_is_known_without_the_name_on_its_label(root: Path) -> None:
    """A restart onto a ready-made one leaves only a link of the label's name, and that isn't made again."""
    folder(root / "run", Owner.current())
    assert Engine(box(root / "waited", GONE)).sweep() == ["box"]
    (root / "run/owner").write_text(str(GONE))
    assert Engine(box(root / "waited", GONE)).sweep() == ["box"], "it has its grace"
    assert (root / "run").is_dir()


def test_who_holds_a_kernel_without_a_folder_has_time_to_say_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may hold what it has taken up: the kernel is spared until that had two sweeps of its own."""
    engine = Engine(box(root / "run", GONE))
    assert engine.sweep() == engine.sweep() == ["box"]
    held._held["box"] = held._Held(RunFolder(root / "run"), STATE, "")
    assert engine.sweep() == ["box"]
    assert RunFolder(root / "run").owner_alive(), "a folder that another's sweep made is no reason not to make it again"
    held.drop("box")
    RunFolder(root / "run").remove()
    assert engine.sweep() == ["box"]
    monkeypatch.setattr(module, "_VANISHED_SECONDS", 0.0)
    assert engine.sweep() == []
    assert list(root.iterdir()) == []


def test_what_a_failed_launch_of_this_process_left_goes_at_once(root: Path) -> None:
    """Its folder is removed and the engine kept the container: nobody holds that."""
    assert Engine(box(root / "run", Owner.current())).sweep() == []


@pytest.mark.parametrize("text", ['{"kernel_id": "k", "later": 1}', "", "[]"])
def test_a_state_that_cannot_be_read_ends_no_training(root: Path, text: str) -> None:
    """One of a later version, or of a disk that is ill: the kernel has its grace as any other that ran; ``ps`` says how
    much, and that no server can take it up."""
    run = folder(root / "run", GONE)
    (run.path / "state.json").write_text(text)
    (run.path / "handover.json").write_text(text)
    engine = Engine(box(run.path, GONE))
    assert engine.sweep() == ["box"]
    [shown] = asyncio.run(kernels.known(engine))  # type: ignore[arg-type]
    assert ps.serving(ps.row(shown)) == "gone; kept 24 h; no server can take it up"
    (run.path / "orphaned").write_text(f"-1e9 {run.owner()}")
    assert engine.sweep() == []


def test_a_suspended_machine_ends_no_training(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy kernel whose server is gone has its grace for running, not for a weekend with the lid shut."""
    engine = Engine(box(left_behind.kernel(root / "run", "k", root).path, GONE))

    async def busy(connection: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(module.ready, "ask", busy)  # type: ignore[attr-defined]
    assert engine.sweep() == ["box"]
    real, slept, ran = time.clock_gettime, 72 * 3600.0, 0.0

    def clock(which: int) -> float:
        return real(which) + ran + (slept if which in {time.CLOCK_BOOTTIME, time.CLOCK_REALTIME} else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock)
    assert engine.sweep() == ["box"]
    ran = 25 * 3600.0
    assert engine.sweep() == []


def test_sweeps_begin_when_there_is_an_engine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may start before its engine does."""
    folder(root / "stale", GONE)
    asked: list[str] = []

    def find_engine() -> Engine:
        asked.append("once")
        if len(asked) < 3:
            raise EngineNotFound("none", "")
        return Engine()

    monkeypatch.setattr(module.find, "engine", find_engine)  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_swept", set())

    async def serve() -> None:
        sweeping = asyncio.create_task(module.regularly(logging.getLogger(), every=0.01))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not (root / "stale").exists():
                break
        sweeping.cancel()

    asyncio.run(serve())
    assert not (root / "stale").exists()
    assert len(asked) == 3


def test_what_a_later_version_adds_is_passed_over(root: Path) -> None:
    """A field more in the state or the handover hinders neither sweeps nor adoption."""
    run = left_behind.kernel(root / "run", "k", root)
    known = run.state(), handover.read(run)
    assert None not in known
    for file in ("state.json", "handover.json"):
        raw = json.loads((run.path / file).read_text())
        raw["later"] = {"more": 1}
        if file == "handover.json":
            raw["image"]["later"] = "more"
        (run.path / file).write_text(json.dumps(raw))
    assert (run.state(), handover.read(run)) == known


def test_what_may_run_on_another_engine_is_spared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder stays for as long as a busy kernel is spared, and goes at once when the machine was booted since; the
    same socket under another name is no other engine."""
    (root / "a.sock").touch()
    (root / "other.sock").symlink_to("a.sock")
    run = folder(root / "run", GONE)
    run.note_engine(f"unix://{root}/a.sock")
    other = Engine(address="unix:///b")
    for _ in range(2):
        other.sweep()
        assert run.state() == STATE
    (run.path / "owner").write_text(str(replace(GONE, boot="before")))
    other.sweep()
    assert not run.path.exists()
    run = folder(root / "run", GONE)
    run.note_engine(f"unix://{root}/a.sock")
    Engine(address=f"unix://{root}/other.sock").sweep()
    assert not run.path.exists()
    run = folder(root / "run", GONE)
    run.note_engine(f"unix://{root}/a.sock")
    other.sweep()
    assert run.path.exists()
    monkeypatch.setattr(module, "_VANISHED_SECONDS", 0.0)
    other.sweep()
    assert not run.path.exists()


def test_a_mark_of_an_owner_before_starts_no_clock(root: Path) -> None:
    """A sweep may write it just after somebody has taken the kernel up; when that one is gone the grace is whole."""
    run = folder(root / "run", replace(GONE, pid=1))
    engine = Engine(box(run.path, GONE))
    assert engine.sweep() == ["box"]
    (run.path / "orphaned").write_text(f"-1e9 {run.owner()}")
    (run.path / "owner").write_text(str(GONE))
    assert module.seconds_left(run) == module._VANISHED_SECONDS
    assert engine.sweep() == ["box"]
    (run.path / "orphaned").write_text(f"-1e9 {run.owner()}")
    assert engine.sweep() == []
