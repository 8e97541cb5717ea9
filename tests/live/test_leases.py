"""Who gets which GPU, on real engines with doubled GPUs: leases, policies of sharing, queues, and the way of asking."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.state import State, machine, partitioned

from . import gpu_machine
from .gpu_machine import ROOT, Machine, needs_own_engine

pytestmark = needs_own_engine

_LAUNCH = """
import asyncio, json, os, signal, sys, time
from jupyter_client.manager import AsyncKernelManager

name, count, after, workspace = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

async def one():
    manager = AsyncKernelManager(kernel_name=name)
    try:
        await manager.start_kernel(cwd=workspace, env=dict(os.environ))
    except Exception as error:
        return None, type(error).__name__, str(error)
    return manager, manager.provisioner._kernel.gpu.uuids, manager.provisioner._kernel.container

async def main():
    results = await asyncio.gather(*(one() for _ in range(count)))
    run = [(list(uuids), container) for manager, uuids, container in results if manager]
    failed = [(kind, text) for manager, kind, text in results if not manager]
    print(json.dumps({"run": run, "failed": failed}), flush=True)
    if after == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if after == "wait":
        sys.stdin.readline()
    for manager, *_ in results:
        if manager:
            await manager.shutdown_kernel(now=True)

asyncio.run(main())
"""


@pytest.fixture
def gpus(nvidia_machine: Machine) -> Iterator[Machine]:
    """Return the machine with eight free GPUs."""
    nvidia_machine.set(machine(8))
    yield nvidia_machine
    nvidia_machine.clear()


def launch(where: Machine, name: str, count: int = 1, after: str = "end") -> subprocess.Popen[str]:
    """Launch kernels in a process of its own; its standard output begins with a line of JSON."""
    workspace = where.folder / "work"
    workspace.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, name, str(count), after, str(workspace)],
        env=where.env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def results(process: subprocess.Popen[str]) -> dict[str, list[list[str]]]:
    """Return what a launching process tells first."""
    assert process.stdout and process.stderr
    line = process.stdout.readline()
    assert line, process.stderr.read()[-3000:]
    told: dict[str, list[list[str]]] = json.loads(line)
    return told


def uuids(state: State) -> set[str]:
    """Return the UUIDs of a machine's GPUs."""
    return {gpu.uuid for gpu in state.gpus}


@pytest.mark.timeout(400)
def test_fifty_at_once_on_eight_exclusive_gpus(gpus: Machine) -> None:
    """Of 50 launches at one moment exactly 8 run, each on a GPU of its own; killed, their owner holds none any more."""
    gpus.install("alone", "--gpu-sharing", "exclusive")
    began = time.monotonic()
    process = launch(gpus, "alone", 50, "kill")
    told = results(process)
    seconds = time.monotonic() - began
    granted = [gpu for held, _ in told["run"] for gpu in held]
    assert len(told["run"]) == 8
    assert set(granted) == uuids(machine(8))
    assert [gpus.toolkit.granted(container) for _, container in told["run"]] == [held for held, _ in told["run"]]
    assert [kind for kind, _ in told["failed"]] == ["GpusTaken"] * 42
    for _, text in told["failed"]:
        assert "none of 8 can be had now" in text
        assert "set when_full to wait or cpu" in text
    assert process.wait(30) == -signal.SIGKILL
    print(f"8 of 50 ran, 42 were refused, in {seconds:.1f} s")
    again = launch(gpus, "alone", 8)
    assert {gpu for held, _ in results(again)["run"] for gpu in held} == uuids(machine(8))
    again.communicate("", 60)


@pytest.mark.nightly
def test_two_engines_of_one_machine_share_no_gpu(gpus: Machine, tmp_path: Path) -> None:
    """A GPU that a kernel on one engine has exclusively is taken for kernels on another engine."""
    gpus.set(machine(1))
    gpus.install("alone", "--gpu-sharing", "exclusive")
    first = launch(gpus, "alone", 1, "wait")
    assert len(results(first)["run"]) == 1
    with gpu_machine.running(tmp_path) as other:
        other.set(machine(1))
        other.install("alone", "--gpu-sharing", "exclusive")
        second = launch(other, "alone")
        assert [kind for kind, _ in results(second)["failed"]] == ["GpusTaken"]
        second.communicate("", 60)
        first.communicate("\n", 60)
        third = launch(other, "alone")
        assert len(results(third)["run"]) == 1
        third.communicate("", 60)


def test_shared_kernels_spread(gpus: Machine) -> None:
    """Kernels that share start on different GPUs while there are any, though no memory is in use yet."""
    gpus.set(machine(2))
    gpus.install("shared")
    process = launch(gpus, "shared", 4, "wait")
    held = [gpu for granted, _ in results(process)["run"] for gpu in granted]
    assert sorted(held.count(uuid) for uuid in uuids(machine(2))) == [2, 2]
    process.communicate("\n", 60)


def test_who_waits_gets_the_gpu_when_it_comes_free(gpus: Machine) -> None:
    """With when_full wait, a launch stands in the queue until the holder ends, then runs on that GPU."""
    gpus.set(machine(1))
    gpus.install("alone", "--gpu-sharing", "exclusive")
    gpus.install("patient", "--gpu-sharing", "exclusive", "--when-full", "wait")
    first = launch(gpus, "alone", 1, "wait")
    results(first)
    second = launch(gpus, "patient")
    deadline = time.monotonic() + 20
    while not list(Path("/dev/shm").glob("tfgpu-wait-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    refused = launch(gpus, "alone")
    assert "wait already" in results(refused)["failed"][0][1]
    refused.communicate("", 60)
    first.communicate("\n", 60)
    assert len(results(second)["run"]) == 1
    second.communicate("", 60)
    assert not list(Path("/dev/shm").glob("tfgpu-wait-*"))


def test_the_environment_can_not_ask_for_more(gpus: Machine) -> None:
    """``NVIDIA_VISIBLE_DEVICES=all`` in image, kernelspec and caller's environment: only the granted GPU is there."""
    greedy = "tfgpu-double/greedy"
    made = gpus.daemon.docker("create", "--network=none", gpu_machine.SLIM, "true").stdout.strip()
    gpus.daemon.docker("commit", "--change=ENV NVIDIA_VISIBLE_DEVICES=all", made, greedy)
    gpus.install("greedy", "--image", greedy, "--env", "NVIDIA_VISIBLE_DEVICES=all")
    spec = gpus.folder / "prefix/share/jupyter/kernels/greedy/kernel.json"
    content = json.loads(spec.read_text())
    content["env"] = {"NVIDIA_VISIBLE_DEVICES": "all"}
    spec.write_text(json.dumps(content))
    process = launch(gpus, "greedy", 1, "wait")
    ((granted, container),) = results(process)["run"]
    assert len(granted) == 1
    assert gpus.toolkit.granted(str(container)) == list(granted)
    listed = gpus.daemon.docker("exec", str(container), "nvidia-smi", "-L").stdout
    assert [uuid in listed for uuid in sorted(uuids(machine(8)))].count(True) == 1
    assert granted[0] in listed
    process.communicate("\n", 60)


def test_a_cut_gpu_is_lent_in_parts(gpus: Machine) -> None:
    """Of a GPU in MIG mode a count gets MIG devices, never the whole; the whole GPU beside it goes first."""
    state = partitioned()
    gpus.set(state)
    gpus.install("alone", "--gpu-sharing", "exclusive")
    process = launch(gpus, "alone", 4, "wait")
    told = results(process)
    parts = {mig.uuid for mig in state.gpus[0].mig}
    assert {gpu for held, _ in told["run"] for gpu in held} == {state.gpus[1].uuid, *parts}
    assert len(told["failed"]) == 1
    process.communicate("\n", 60)
