"""Taking up kernels that outlived their server, where something is in the way of one of them."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from tests.left_behind import GONE, Engine, kernel
from tfgpu_kernel import adopt, enrol, held, lease, obituaries, runfolder
from tfgpu_kernel.engine import find
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.runfolder import RunFolder
from tfgpu_kernel.server import replay

Taken = Callable[[], list[str]]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a short path, for sockets, as root folder and place of run folders, with a kernelspec."""
    with tempfile.TemporaryDirectory(prefix="adopt-") as folder:
        root = Path(folder)
        monkeypatch.setattr(runfolder, "roots", lambda: (root / "t",))
        monkeypatch.setattr(lease, "FOLDER", root)
        monkeypatch.setattr(held, "_held", {})
        monkeypatch.setattr(replay, "_waiting", {})
        monkeypatch.setattr(obituaries, "_recent", obituaries._recent.__class__())
        (root / "kernels/tfgpu").mkdir(parents=True)
        spec = {
            "argv": [], "display_name": "T", "language": "python",
            "metadata": {"kernel_provisioner": {"provisioner_name": "tfgpu-docker-provisioner"}},
        }  # fmt: skip
        (root / "kernels/tfgpu/kernel.json").write_text(json.dumps(spec))
        yield root


@pytest.fixture
def three(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """Return the run folders of three kernels whose server is gone."""
    runs = [kernel(root / "t" / name, name, root) for name in "abc"]
    engine: Any = Engine(*runs)
    monkeypatch.setattr(find, "at", lambda address: engine)
    return runs


def take_up(root: Path) -> list[str]:
    """Start as a server does; return the ids of the kernels that it has then, each with its kept messages."""

    async def start() -> list[str]:
        specs = KernelSpecManager(kernel_dirs=[str(root / "kernels")], ensure_native_kernel=False)
        multi = AsyncMappingKernelManager(  # type: ignore[no-untyped-call]
            root_dir=str(root), kernel_spec_manager=specs, connection_dir=str(root), cull_idle_timeout=0
        )
        adopted = adopt.all_of(multi, str(root), logging.getLogger())
        replay.await_pages(multi, adopted)
        found = sorted(multi.list_kernel_ids())
        assert found == sorted(one.kernel_id for one in adopted) == sorted(replay._waiting)
        for kernel_id in found:
            replay.drop(kernel_id)
            enrol.leave(multi, kernel_id, multi.get_kernel(kernel_id))
        multi.context.destroy(linger=0)  # here, and not when something else collects garbage
        return found

    return asyncio.run(start())


def no_room(*given: Any, **named: Any) -> Any:
    """Refuse as a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device")


def told() -> dict[str, str]:
    """Return what Lab is told, by kernel."""
    return {one.kernel_id: one.account.message for one in obituaries.recent()}


def test_one_that_cannot_be_taken_up_keeps_no_other_from_it(
    root: Path, three: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays nobody's, so that it can be taken up later; Lab is told why."""
    enter = enrol.enter

    def entering(multi: Any, kernel_id: str, manager: Any) -> None:
        enter(multi, kernel_id, manager)
        if kernel_id == "b":
            raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(enrol, "enter", entering)
        assert take_up(root) == ["a", "c"]
    assert told() == {
        "b": "The kernel goes on, but this server could not take it up: [Errno 24] Too many open files."
    }
    assert [run.owner() for run in three] == [Owner.current(), GONE, Owner.current()]
    assert not held.here("box-b")
    assert take_up(root) == ["b"]


def test_a_kernel_without_kernelspec_is_told(root: Path, three: list[RunFolder]) -> None:
    """Nobody would know else that it runs on."""
    three[0].change_state(kernel_name="else")
    assert take_up(root) == ["b", "c"]
    assert "its kernelspec 'else' is not installed any more" in told()["a"]
    assert three[0].owner() == GONE


def test_a_full_disk_keeps_no_kernel_from_the_next_server(
    root: Path, three: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints filled it: there is no room for a connection file, nor for a second file of the owner's."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_room)
        patch.setattr("jupyter_client.connect.secure_write", no_room)
        assert take_up(root) == ["a", "b", "c"]
    assert told() == {}
    assert [run.owner() for run in three] == [Owner.current()] * 3
    assert {entry.name for entry in three[0].path.iterdir()} == {"owner", "engine", "io", "state.json", "handover.json"}


def test_a_death_is_told_though_the_disk_is_full(
    root: Path, three: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't be noted in the state file; the ones that live are taken up, and not that one."""
    gone: Any = Engine(*three[:2])
    monkeypatch.setattr(find, "at", lambda address: gone)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_room)
        assert take_up(root) == ["a", "b"]
    assert told() == {"c": "The kernel ended while no server was running: its container is gone."}
