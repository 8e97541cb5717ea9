"""Kernels that wait on a machine with GPUs: they see one, open none, and hold none until they are taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.state import machine

from .gpu_machine import Machine, needs_own_engine

pytestmark = [needs_own_engine, pytest.mark.nightly]

_WAY = """
import asyncio, json, os, subprocess, sys
from pathlib import Path
from tests.live.driving import kernel
from tests.live.test_pool import container_of, keeping, one_ready
from tfgpu_kernel import lease, quiet
quiet.PATIENCE_SECONDS = 0

def opened(container):
    pid = subprocess.run(["docker", "inspect", "-f", "{{.State.Pid}}", container], capture_output=True, text=True)
    inside = Path(f"/proc/{pid.stdout.strip()}/task/{pid.stdout.strip()}/children").read_text().split()
    return any("libcuda" in Path(f"/proc/{one}/maps").read_text() for one in inside)

def leased():
    mine = os.environ["JUPYTER_RUNTIME_DIR"]  # the machine may run other tests
    return sorted(holder.gpu for holder in lease.holders() if holder.run.startswith(mine))

INIT = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
SEEN = (
    "import ctypes, os\\n"
    "def seen():\\n"
    "    count = ctypes.c_int()\\n"
    "    ctypes.CDLL('libcuda.so.1').cuDeviceGetCount(ctypes.byref(count))\\n"
    "    get = ctypes.CDLL(None).getenv\\n"
    "    get.restype = ctypes.c_char_p\\n"
    "    return count.value, (get(b'CUDA_VISIBLE_DEVICES') or b'').decode()\\n"
    "print(*seen())\\n"
    "os.environ['CUDA_VISIBLE_DEVICES'] = '0'\\n"
    "print(*seen())"
)

async def main():
    told = {}
    async with keeping() as kept:
        async with kernel(Path(sys.argv[2]), sys.argv[1]) as first:
            ready = await one_ready(kept)
            told["first"] = list(first.manager.provisioner.kernel.gpu.uuids)
            told["waits for"] = list(ready.gpus)
            told["leased"] = leased()
            told["opened"] = opened(ready.container)
            try:
                async with kernel(Path(sys.argv[2]), sys.argv[1]) as second:
                    told["second is the one that waited"] = container_of(second) == ready.container
                    told["second"] = list(second.manager.provisioner.kernel.gpu.uuids)
                    told["leased by both"] = leased()
                    told["cuInit"] = await second.run(INIT)
                    told["opened then"] = opened(container_of(second))
                    told["seen"] = (await second.run(SEEN)).split()
            except Exception as error:
                told["refused"] = type(error).__name__
            ready = await one_ready(kept)
            await first.restart()
            told["restart took the one that waited"] = container_of(first) == ready.container
            told["after the restart"] = list(first.manager.provisioner.kernel.gpu.uuids)
    print(json.dumps(told))

asyncio.run(main())
"""


@pytest.fixture
def gpus(nvidia_machine: Machine) -> Iterator[Machine]:
    """Return the machine; what runs on it is gone afterwards."""
    yield nvidia_machine
    nvidia_machine.clear()


def told(gpus: Machine, count: int, *settings: str) -> dict[str, Any]:
    """Go the way on a machine with so many GPUs."""
    gpus.set(machine(count))
    gpus.install("waits", *settings)
    answer: dict[str, Any] = gpus.python(_WAY, "waits", str(gpus.folder))
    return answer


def test_exclusive_gpu_of_a_kernel_that_waits_is_free(gpus: Machine) -> None:
    """One waits for the other GPU without a lease and without libcuda; a start takes it, and has the GPU alone then."""
    seen = told(gpus, 2, "--gpu-sharing", "exclusive")
    both = sorted(gpu.uuid for gpu in machine(2).gpus)
    assert seen["leased"] == seen["first"]
    assert sorted(seen["first"] + seen["waits for"]) == both
    assert seen["opened"] is False
    assert seen["second is the one that waited"] is True
    assert (seen["second"], seen["leased by both"]) == (seen["waits for"], both)
    assert (seen["cuInit"], seen["opened then"]) == ("0\n", True)


def test_exclusive_gpu_that_another_kernel_has_is_not_taken(gpus: Machine) -> None:
    """On a machine with one GPU the kernel that waits is not taken by a second start, but by the first's restart."""
    seen = told(gpus, 1, "--gpu-sharing", "exclusive")
    assert seen["waits for"] == seen["first"] == seen["leased"]
    assert seen["refused"] == "GpusTaken"
    assert seen["restart took the one that waited"] is True
    assert seen["after the restart"] == seen["first"]


def test_shared_gpus_are_narrowed_when_the_kernel_is_taken(gpus: Machine) -> None:
    """A kernel that waits sees all shared GPUs and opens none; taken, CUDA shows it the one that is least used."""
    seen = told(gpus, 2)
    both = sorted(gpu.uuid for gpu in machine(2).gpus)
    assert seen["leased"] == seen["first"]
    assert seen["opened"] is False
    assert sorted(seen["waits for"]) == both
    assert seen["second is the one that waited"] is True
    assert seen["leased by both"] == both
    assert seen["cuInit"] == "0\n"
    assert seen["seen"] == ["1", *seen["second"]] * 2
    assert seen["restart took the one that waited"] is True
    assert seen["after the restart"] == seen["first"]


def test_all_shared_gpus_are_not_narrowed(gpus: Machine) -> None:
    """A kernel that gets all GPUs that it sees finds no variable set, and what it sets is left alone."""
    seen = told(gpus, 1)
    assert seen["second is the one that waited"] is True
    assert seen["second"] == seen["first"] == seen["waits for"]
    assert seen["seen"] == ["1", "0", "0"]  # the double of CUDA knows GPUs by UUID alone


_ALONE = """
import asyncio, json, sys
from pathlib import Path
from tests.live.driving import kernel
from tests.live.test_pool import container_of, keeping, one_ready, until
from tfgpu_kernel import quiet
quiet.PATIENCE_SECONDS = 0
folder, told = Path(sys.argv[1]), {}

def held(driven):
    return list(driven.manager.provisioner.kernel.gpu.uuids)

async def main():
    async with keeping() as kept, kernel(folder, "waits") as first:
        before = await one_ready(kept)
        told["ready before"] = sorted(before.gpus)
        async with kernel(folder, "alone") as alone:
            told["first"], told["alone"] = held(first), held(alone)
            async with kernel(folder, "waits") as second:
                told["second took the one that sees both"] = container_of(second) == before.container
                told["second"] = held(second)
                await until(lambda: bool(kept.state()) and kept.state()[0].container != before.container, 120)
                ready = kept.state()[0]
                told["ready meanwhile"] = list(ready.gpus)
                async with kernel(folder, "waits") as third:
                    told["third took the new one"] = container_of(third) == ready.container
                    told["containers"] = [container_of(second), container_of(third)]
    print(json.dumps(told))

asyncio.run(main())
"""


def test_kernel_that_waited_sees_no_gpu_that_another_has_exclusively(gpus: Machine) -> None:
    """Made before, it is not taken, and replaced by one that doesn't see that GPU; the containers hold it neither."""
    gpus.set(machine(2))
    gpus.install("waits")
    gpus.install("alone", "--gpu-sharing", "exclusive", "--pool-size", "0")
    seen = gpus.python(_ALONE, str(gpus.folder))
    assert seen["ready before"] == sorted(gpu.uuid for gpu in machine(2).gpus)
    assert seen["alone"] != seen["first"]
    assert seen["second took the one that sees both"] is False
    assert seen["ready meanwhile"] == seen["first"]
    assert seen["third took the new one"] is True
    assert [gpus.toolkit.granted(container) for container in seen["containers"]] == [seen["first"]] * 2
