"""A GPU that goes away under a running kernel is told within 10 s; so is a kernel that runs on the CPU instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import state as doubled
from tests.doubles.state import State, machine

from .gpu_machine import Machine, needs_own_engine

pytestmark = needs_own_engine

_WATCHED = """
import asyncio, glob, json, os, sys, time
from jupyter_client.manager import AsyncKernelManager
from tfgpu_kernel import notices

how, arguments = sys.argv[1], sys.argv[3:]

def take_devices(container):
    group, = glob.glob(f"/sys/fs/cgroup/devices/**/{container}/devices.deny", recursive=True)
    for rule in open(group.replace("deny", "list")).read().splitlines():
        if rule.startswith("c 195:"):
            open(group, "w").write(rule)

async def main():
    manager = AsyncKernelManager(kernel_name="watched")
    await manager.start_kernel(cwd=sys.argv[2], env=dict(os.environ))
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    said = []
    hear = lambda message: said.append(message["content"].get("text", ""))
    await client.execute_interactive("print('first')", output_hook=hear, timeout=60)
    kernel = manager.provisioner._kernel
    calls = []
    engine = manager.provisioner._engine
    original = engine._call
    engine._call = lambda *a, **k: (calls.append(1), original(*a, **k))[1]
    began = time.monotonic()
    if how == "cgroup":
        take_devices(kernel.container)
    elif how == "host":
        os.replace(arguments[0], os.environ["NVIDIA_DOUBLE_STATE"])
    while not notices.recent() and time.monotonic() - began < 20:
        await asyncio.sleep(0.1)
    seconds, asked = time.monotonic() - began, len(calls)
    if how != "cpu":
        await client.execute_interactive("print('next')", output_hook=hear, timeout=60)
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    told = [(type(one.account).__name__, str(one.account)) for one in notices.recent()]
    print(json.dumps([seconds, told, "".join(said), asked]))

asyncio.run(main())
"""


@pytest.fixture
def here(nvidia_machine: Machine) -> Iterator[Machine]:
    """Return the machine with two GPUs."""
    nvidia_machine.set(machine(2))
    yield nvidia_machine
    nvidia_machine.clear()


def run(here: Machine, how: str, *arguments: str) -> tuple[float, list[list[str]], str, int]:
    """Drive a kernel whose GPU goes; return seconds, notices, what the notebook was told, and calls of the engine."""
    seconds, told, said, calls = here.python(_WATCHED, how, str(here.folder), *arguments)
    return seconds, told, said, calls


def test_a_daemon_reload_is_told(here: Machine) -> None:
    """When the container may not open the device files any more, log, Lab and notebook are told within 10 s."""
    if not Path("/sys/fs/cgroup/devices").is_dir():
        pytest.skip("the device rules of cgroup v2 are a program that can't be edited from outside")
    here.install("watched")
    seconds, told, said, calls = run(here, "cgroup")
    assert seconds < 10
    ((kind, text),) = told
    assert kind == "GpuLost"
    assert "daemon-reload" in text and "restart the kernel" in text
    assert said.startswith("first\n") and "has lost its GPU" in said
    assert calls == 0
    print(f"told after {seconds:.1f} s")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (machine(2, errors={doubled.EVERY: doubled.GPU_IS_LOST}), "off the bus"),
        pytest.param(
            machine(2, errors={"nvmlInit_v2": doubled.DRIVER_NOT_LOADED}), "driver is not loaded",
            marks=pytest.mark.nightly,
        ),
        pytest.param(machine(0), "doesn't list it any more", marks=pytest.mark.nightly),
    ],
    ids=["off the bus", "driver unloaded", "not listed"],
)
def test_a_gpu_that_the_host_loses_is_told(here: Machine, tmp_path: Path, state: State, words: str) -> None:
    """When the driver on the host has the GPU no more, that is told within 10 s, with no call of the engine."""
    here.install("watched")
    state.write(tmp_path / "after")
    seconds, told, _, calls = run(here, "host", str(tmp_path / "after"))
    assert seconds < 10
    ((kind, text),) = told
    assert kind == "GpuLost"
    assert words in text
    assert calls == 0


def test_a_run_on_the_cpu_is_said(here: Machine) -> None:
    """With gpu_required false and no GPU, the first output of the notebook says why it runs on the CPU."""
    here.set(machine(2, errors={"nvmlInit_v2": doubled.DRIVER_NOT_LOADED}))
    here.install("watched", "--no-gpu-required")
    _, told, said, _ = run(here, "cpu")
    ((kind, text),) = told
    assert kind == "GpuUnusable"
    assert "runs on the CPU" in text and "driver is not loaded" in text
    assert said.startswith("tfgpu: This kernel runs on the CPU.")
    assert said.endswith("first\n")
