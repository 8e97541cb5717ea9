"""The whole path from a kernelspec to a GPU in the container, through jupyter_client, on engines old and new."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.doubles.state import machine, partitioned

from . import gpu_machine
from .gpu_machine import Machine, needs_own_engine

pytestmark = needs_own_engine

_PATH = """
import asyncio, json, os, sys
from jupyter_client.manager import AsyncKernelManager

async def main():
    manager = AsyncKernelManager(kernel_name=sys.argv[1])
    await manager.start_kernel(cwd=sys.argv[2], env=dict(os.environ))
    try:
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        told = []
        await client.execute_interactive(
            sys.argv[3], output_hook=lambda message: told.append(message["content"].get("text", "")), timeout=60)
        client.stop_channels()
        kernel = manager.provisioner._kernel
        host = (await manager.provisioner._engine.inspect(kernel.container))["HostConfig"]
        asked = [host["Runtime"], host["DeviceRequests"]]
        print(json.dumps([kernel.gpu.uuids, kernel.container, asked, json.loads("".join(told))]))
    finally:
        await manager.shutdown_kernel(now=True)

asyncio.run(main())
"""
_LOOK = """
import subprocess, ctypes, os, json
smi = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
print(json.dumps([smi, ctypes.CDLL("libcuda.so.1").cuInit(0), dict(os.environ)]))
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="installed engine, nvidia runtime"),
        pytest.param(("trixie", False), id="Docker 26.1, CDI alone"),
        pytest.param(("sid", False), id="Docker 28.5, CDI alone", marks=pytest.mark.nightly),
        pytest.param(("sid", True), id="Docker 28.5, both", marks=pytest.mark.nightly),
    ],
)
def engine_and_way(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, bool]]:
    """Return a machine, and whether its engine has the nvidia runtime."""
    if request.param is None:
        yield request.getfixturevalue("nvidia_machine"), True
        return
    suite, runtime = request.param
    with gpu_machine.running(tmp_path_factory.mktemp("m"), suite=suite, runtime=runtime) as made:
        yield made, runtime


def test_from_kernelspec_to_gpu(engine_and_way: tuple[Machine, bool]) -> None:
    """A kernel that asks for one GPU of two sees exactly one, by nvidia-smi and libcuda, asked for in one way."""
    here, runtime = engine_and_way
    here.set(machine(2))
    here.install("gpu")
    uuids, container, (used, requests), (listed, code, env) = here.python(_PATH, "gpu", str(here.folder), _LOOK)
    known = [gpu.uuid for gpu in machine(2).gpus]
    assert len(uuids) == 1 and uuids[0] in known
    assert [uuid for uuid in known if uuid in listed] == uuids
    assert code == 0
    assert here.toolkit.granted(container) == uuids
    assert env["NVIDIA_VISIBLE_DEVICES"] == (uuids[0] if runtime else "void")
    assert env["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    if runtime:
        assert (used, requests) == ("nvidia", None)
    else:
        assert used == "runc"
        assert requests[0]["Driver"] == "cdi"
        assert json.dumps(requests).count("nvidia.com/gpu=") == 1
    assert not here.kernels()


def test_none_is_none(engine_and_way: tuple[Machine, bool]) -> None:
    """A kernel that wants no GPU sees none, whatever the engine offers."""
    here, _ = engine_and_way
    here.set(machine(2))
    here.install("cpu", "--gpus", "none", "--env", "NVIDIA_VISIBLE_DEVICES=all")
    look = "import os, json; print(json.dumps([os.listdir('/dev'), dict(os.environ)]))"
    uuids, container, _, (devices, env) = here.python(_PATH, "cpu", str(here.folder), look)
    assert uuids == []
    assert not [name for name in devices if "nvidia" in name]
    assert not here.toolkit.granted(container)
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_mig_device_by_each_way(engine_and_way: tuple[Machine, bool]) -> None:
    """A MIG device named by its UUID is the only thing seen."""
    here, _ = engine_and_way
    state = partitioned()
    here.set(state)
    part = state.gpus[0].mig[1].uuid
    here.install("part", "--gpus", part)
    uuids, container, _, (listed, *_) = here.python(_PATH, "part", str(here.folder), _LOOK)
    assert uuids == [part]
    assert here.toolkit.granted(container) == [part]
    assert part in listed
    assert state.gpus[0].mig[0].uuid not in listed
    assert state.gpus[1].uuid not in listed
