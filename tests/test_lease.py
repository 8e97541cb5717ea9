"""Which GPU is chosen, and who is told to hold it: pure choices, and files that all of a machine's servers share."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tfgpu_kernel import lease, picking
from tfgpu_kernel.config import KernelConfig, Sharing
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.errors import ConfigError, GpusTaken, GpuUnusable, TfgpuError
from tfgpu_kernel.gpu import nvml, units
from tfgpu_kernel.gpu.nvml import Gpu, Memory, MigDevice, Sample
from tfgpu_kernel.gpu.units import Unit
from tfgpu_kernel.lease import Holder
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.policy import Policy

GIB = 2**30
NO_ENGINE = cast(Engine, None)
_IN_FOLDER = (
    "import asyncio, sys\nfrom pathlib import Path\nfrom tfgpu_kernel import lease\nlease.FOLDER = Path(sys.argv[1])"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep leases in a folder of the test's own."""
    monkeypatch.setattr(lease, "FOLDER", tmp_path)
    return tmp_path


def unit(name: str, free: int = 40, **changes: Any) -> Unit:
    """Return a GPU with so many GiB free."""
    made = Unit(f"GPU-{name}", "A100", name, (8, 0), free * GIB, 40 * GIB, 0, ())
    return replace(made, **changes)


def hold(gpu: str, sharing: Sharing = "shared", run: str = "/other") -> Holder:
    """Return somebody's hold on a GPU."""
    return Holder(f"GPU-{gpu}", sharing, 4_000_000, str(Owner.current()), run, 0.0)


def places(chosen: Sequence[Unit]) -> list[str]:
    """Return the places of units."""
    return [unit.place for unit in chosen]


def pick(here: Sequence[Unit], held: Sequence[Holder] = (), ahead: int = 0, **settings: Any) -> list[str]:
    """Choose, and return the places."""
    return places(picking.pick(KernelConfig(**settings), here, held, ahead))


def test_most_free_memory_first() -> None:
    """A count takes the GPUs with most free memory."""
    here = [unit("0", 10), unit("1", 39), unit("2", 25)]
    assert pick(here) == ["1"]
    assert pick(here, gpus=2) == ["1", "2"]


def test_shared_kernels_spread_before_they_use_memory() -> None:
    """Memory is divided by who shares it, so a GPU with a kernel that has taken nothing yet comes second."""
    here = [unit("0"), unit("1")]
    assert pick(here, [hold("0")]) == ["1"]
    assert pick(here, [hold("0"), hold("1"), hold("1")]) == ["0"]
    assert pick([unit("0", 40), unit("1", 10)], [hold("0")]) == ["0"]


def test_exclusive_passes_over_whoever_is_there() -> None:
    """An exclusive choice takes no GPU that a kernel shares or a foreign process computes on."""
    here = [unit("0", computing=(os.getpid(),)), unit("1"), unit("2", computing=None)]
    assert pick(here, [hold("1")], gpu_sharing="exclusive") == ["2"]
    with pytest.raises(GpusTaken) as caught:
        pick(here, [hold("1"), hold("2", "exclusive")], gpu_sharing="exclusive")
    assert f"process {os.getpid()} (" in str(caught.value)
    assert "which is no kernel with a lease" in str(caught.value)
    assert caught.value.message.count("a kernel of user 4000000 since") == 2


def test_an_exclusive_gpu_is_nobody_elses() -> None:
    """Who shares doesn't get a GPU that somebody has exclusively, not even by its name."""
    here = [unit("0"), unit("1", 1)]
    assert pick(here, [hold("0", "exclusive")]) == ["1"]
    with pytest.raises(GpusTaken):
        pick(here, [hold("0", "exclusive")], gpus=("0",))
    with pytest.raises(GpusTaken, match="only 1 of 2"):
        pick(here, [hold("0", "exclusive")], gpus="all")


def test_who_waits_comes_first() -> None:
    """A GPU that nobody has is for those who wait longer; one that is shared already isn't."""
    here = [unit("0"), unit("1")]
    with pytest.raises(GpusTaken, match="1 wait already"):
        pick(here, [hold("0")], 1, gpu_sharing="exclusive")
    assert pick(here, [hold("0")], 1) == ["0"]


def test_names_and_their_mistakes() -> None:
    """Indices and UUIDs name GPUs, each once; what isn't here is told with what is."""
    here = [unit("0"), unit("1:0"), unit("1:1")]
    assert pick([*here, unit("2")], gpus=("0", "GPU-0", "GPU-2")) == ["0", "2"]
    with pytest.raises(ConfigError, match="names 7, which this machine hasn't"):
        pick(here, gpus=("7",))
    with pytest.raises(ConfigError, match="cut into MIG devices"):
        pick(here, gpus=("1",))
    with pytest.raises(GpuUnusable, match="wants 4 GPUs, and this machine has 3"):
        pick(here, gpus=4)


def test_one_mig_device_at_most() -> None:
    """CUDA uses one MIG device in a process: several GPUs are whole ones; all is the best part where none is whole."""
    parts = [unit("1:0", 5), unit("1:1", 10)]
    here = [unit("0", 1), *parts, unit("2", 1)]
    assert pick(here) == ["1:1"]
    assert pick(here, gpus=2) == ["0", "2"]
    assert pick(here, gpus="all") == ["0", "2"]
    assert pick(parts, gpus="all") == ["1:1"]
    assert pick(parts, [hold("1:1", "exclusive")], gpus="all") == ["1:0"]
    for settings in ({"gpus": 3}, {"gpus": ("0", "1:0")}, {"gpus": ("1:0", "1:1")}):
        with pytest.raises(ConfigError, match="CUDA uses one in a process") as caught:
            pick(here, **settings)
        assert "set gpus to 1" in caught.value.remedy


def test_kernels_per_gpu() -> None:
    """The policy's limit of kernels on a GPU makes it full for one more."""
    here = [unit("0"), unit("1", 5)]
    limits = Policy(kernels_per_gpu=1)
    assert places(picking.pick(KernelConfig(), here, [hold("0")], 0, limits)) == ["1"]
    with pytest.raises(GpusTaken):
        picking.pick(KernelConfig(), here, [hold("0"), hold("1")], 0, limits)


def test_a_cut_gpu_is_its_parts() -> None:
    """Units are whole GPUs and MIG devices; a GPU in MIG mode is none, nor does a display server count as computing."""
    mig = (MigDevice("MIG-a", "1g.5gb", Memory(5, 1, 4, 0), {}, 0), MigDevice("MIG-b", None, None, None, 3))
    cut = Gpu(0, "GPU-0", "A100", (8, 0), None, None, mig_mode=True, mig_devices=mig)
    memory = Memory(40, 0, 40, 0)
    whole = Gpu(1, "GPU-1", "A100", (8, 0), memory, 0, processes={1: 2, 3: 4}, drawing=frozenset({3}))
    found = units.units(Sample("580", (cut, whole)))
    assert [(one.uuid, one.place, one.computing) for one in found] == [
        ("MIG-a", "0:0", ()), ("MIG-b", "0:3", None), ("GPU-1", "1", (1,)),
    ]  # fmt: skip
    assert nvml.Sample("580", (cut,)).gpus[0].free_bytes is None


def test_a_lease_ends_with_its_run_folder(folder: Path) -> None:
    """What is taken is seen by all, and ends when the run folder is forgotten."""
    run = Path("/runs/a")
    assert asyncio.run(lease.take(lambda held: ["GPU-0"], "shared", run, 1000, NO_ENGINE)) == ("GPU-0",)
    (holder,) = lease.holders()
    assert (holder.gpu, holder.run, holder.alive) == ("GPU-0", "/runs/a", True)
    lease.forget(run)
    assert lease.holders() == ()


def test_a_lease_ends_with_its_owner() -> None:
    """A lease of a process that is gone counts for nothing."""
    code = (
        f"{_IN_FOLDER}\nasyncio.run(lease.take(lambda held: ['GPU-0'], 'shared', Path('/runs/b'), 1000, None));"
        "print(len(lease.holders()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(lease.FOLDER)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
    assert lease.holders() == ()


def test_a_lease_outlasts_its_owner_with_the_kernel(folder: Path) -> None:
    """A kernel that runs on without its server keeps its GPU; when it has ended, too, the lease counts for nothing."""
    gone = str(replace(Owner.current(), started=0))
    kernel = subprocess.Popen(["sleep", "60"])
    lease._write(lease._LEASE, Holder("GPU-0", "exclusive", 0, gone, "/runs/e", 1.0, str(Owner.of(kernel.pid))))
    assert [holder.gpu for holder in lease.holders()] == ["GPU-0"]
    lease.take_over(Path("/runs/e"))
    assert [holder.owner for holder in lease.holders()] == [str(Owner.current())]
    lease._write(lease._LEASE, Holder("GPU-1", "exclusive", 0, gone, "/runs/f", 1.0, str(Owner.of(kernel.pid))))
    kernel.kill()
    kernel.wait()
    assert [holder.gpu for holder in lease.holders()] == ["GPU-0"]


def test_choices_come_one_after_another() -> None:
    """Of many processes that choose at one moment, each sees what those before it took."""
    code = (
        f"{_IN_FOLDER}\n"
        "async def main():\n"
        "    async def one(i):\n"
        "        run = Path(f'/{sys.argv[2]}/{i}')\n"
        "        return await lease.take(lambda held: [str(len(held))], 'shared', run, 0, None)\n"
        "    print(*[uuid for (uuid,) in await asyncio.gather(*(one(i) for i in range(10)))], flush=True)\n"
        "    sys.stdin.readline()\n"
        "asyncio.run(main())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(lease.FOLDER), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    taken = [word for process in processes if process.stdout for word in process.stdout.readline().split()]
    for process in processes:
        process.communicate("\n", 30)
    assert sorted(map(int, taken)) == list(range(40))


def test_taking_over(folder: Path) -> None:
    """Who takes a kernel over has its leases; one on a GPU that went to somebody else meanwhile is lost."""
    gone = f"{Owner.current().boot}/{Owner.current().namespace}/1/1"
    for gpu in ("GPU-0", "GPU-1"):
        lease._write(lease._LEASE, Holder(gpu, "exclusive", 0, gone, "/runs/c", 1.0))
    assert lease.holders() == ()
    lease._write(lease._LEASE, Holder("GPU-1", "exclusive", 0, str(Owner.current()), "/runs/d", 2.0))
    lease.take_over(Path("/runs/c"))
    assert {(holder.gpu, holder.run) for holder in lease.holders()} == {("GPU-0", "/runs/c"), ("GPU-1", "/runs/d")}


def test_others_files_are_not_believed(folder: Path) -> None:
    """A file that is no record is passed over; a user can't speak for another."""
    (folder / "tfgpu-lease-x-1").write_text("nonsense")
    (folder / "tfgpu-lease-x-2").symlink_to("/etc/passwd")
    record = {"gpu": "GPU-0", "sharing": "shared", "uid": 1, "owner": str(Owner.current()), "run": "/r", "since": 1.0}
    (folder / "tfgpu-lease-x-3").write_text(json.dumps(record))
    if os.geteuid() == 0:
        os.chown(folder / "tfgpu-lease-x-3", 4242, 4242)
    expected = 4242 if os.geteuid() == 0 else os.geteuid()
    assert [holder.uid for holder in lease.holders()] == [expected]


@pytest.mark.parametrize("wrong", [{"owner": 5}, {"since": "x"}, {"since": float("nan")}, {"gpu": []}, {"uid": "root"},
                                   {"sharing": "mine"}, {"kernel": None}, {"more": 1}])  # fmt: skip
def test_a_record_of_other_types_is_none(folder: Path, wrong: dict[str, Any]) -> None:
    """What anybody may write into the machine's folder breaks nobody's start."""
    record = {"gpu": "G", "sharing": "shared", "uid": 1, "owner": str(Owner.current()), "run": "/r", "since": 1.0}
    (folder / "tfgpu-lease-G-1").write_text(json.dumps(record))
    (folder / "tfgpu-lease-G-2").write_text(json.dumps(record | wrong))
    (folder / "tfgpu-lease-G-3").write_text("[" * 50_000)
    os.mkfifo(folder / "tfgpu-lease-G-4")
    assert len(lease.holders()) == 1


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_lock_that_is_none_is_named(folder: Path, kind: str) -> None:
    """Something else in the lock's place stops no server for ever, and the error names it; taking over goes on."""
    lock = folder / "tfgpu-lease.lock"
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to("/etc/passwd"), "folder": os.mkdir}[kind](lock)
    with pytest.raises(TfgpuError, match=str(lock)):
        asyncio.run(lease.take(lambda held: ["GPU-0"], "shared", Path("/r"), 0, NO_ENGINE))
    gone = f"{Owner.current().boot}/{Owner.current().namespace}/1/1"
    lease._write(lease._LEASE, Holder("GPU-1", "shared", 0, gone, "/runs/c", 1.0))
    lease.take_over(Path("/runs/c"))
    assert [holder.owner for holder in lease.holders()] == [str(Owner.current())]


def test_everybody_can_read_a_lease(folder: Path) -> None:
    """Whatever the server's umask, other users' servers can read who holds what."""
    before = os.umask(0o077)
    try:
        asyncio.run(lease.take(lambda held: ["GPU-0"], "shared", Path("/r"), 0, NO_ENGINE))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in folder.glob("tfgpu-lease-GPU*")] == [0o644]
