"""Each cryptic text about GPUs that an engine or TensorFlow gives is told with its cause and its remedy.

Where a real engine says the text by itself, it does; else the doubled NVIDIA runtime refuses with it, so that it comes
through the real daemon as NVIDIA's would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import state as doubled
from tests.doubles.engine import TINY, Daemon
from tests.doubles.state import State, machine
from tfgpu_kernel import troubles
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import GpuUnusable
from tfgpu_kernel.gpu.request import Way, request

from . import gpu_machine
from .gpu_machine import Machine, needs_own_engine

pytestmark = needs_own_engine

UUID = machine(1).gpus[0].uuid

ENGINE_ROWS: list[tuple[str, Way, State, str]] = [
    ("driver-too-old", "runtime", replace(machine(1), cuda=11040), "unsatisfied condition: cuda>=12.3"),
    ("driver-mismatch", "runtime", machine(1, errors={"nvmlInit_v2": doubled.VERSION_MISMATCH}), "version mismatch"),
    ("driver-not-loaded", "runtime", machine(1, errors={"nvmlInit_v2": doubled.DRIVER_NOT_LOADED}), "driver not"),
    ("no-permission", "runtime", machine(1, errors={"nvmlInit_v2": doubled.NO_PERMISSION}), "insufficient"),
    ("no-library", "runtime", machine(1, library=False), "load library failed: libnvidia-ml.so.1"),
    ("gpu-gone", "runtime", machine(0), "unknown device"),
    *(
        (name, "runtime", machine(1, refusal=text), text)
        for name, text in (
            ("cdi-no-vendor", "failed to discover GPU vendor from CDI: no known GPU vendor found"),
            ("cdi-old-driver", "mount error: stat failed: /usr/lib/libEGL_nvidia.so.535.54: no such file or directory"),
            ("hook-in-cdi-mode", "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker "
             "--gpus flag) is not supported"),
            ("rootless-cgroups", "mount error: failed to add device rules: unable to find any existing device filters: "
             "bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted"),
        )
    ),
]  # fmt: skip
"""Row, way of asking, the machine as it is, and what of the original text must still be told."""

TENSORFLOW_TEXTS = {
    "device-lost": "Failed to initialize NVML: Unknown Error",
    "no-driver-inside": "I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers on your "
    "machine, GPU will not be used.",
    "library-mismatch": "W tensorflow/core/common_runtime/gpu/gpu_device.cc:2343] Cannot dlopen some GPU libraries.",
    "stub-library": "E cuda_driver.cc:265] failed call to cuInit: CUDA_ERROR_STUB_LIBRARY: CUDA driver is a stub "
    "library",
    "image-too-old-for-gpu": "F ./tensorflow/core/kernels/random_op_gpu.h:232] Non-OK-status: device kernel image is "
    "invalid",
    "gpu-closed": "E cuda_driver.cc:282] failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE: "
    "CUDA-capable device(s) is/are busy or unavailable",
    "gpu-memory": "failed to allocate 11.0G: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine whose installed engine knows no runtime of NVIDIA's."""
    with gpu_machine.running(tmp_path_factory.mktemp("b"), runtime=False, slim=False) as made:
        yield made


@pytest.fixture(scope="module")
def knows_cdi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine whose engine (Docker 26.1) reads CDI specifications."""
    with gpu_machine.running(tmp_path_factory.mktemp("c"), runtime=False, slim=False, suite="trixie") as made:
        yield made


def refusal(daemon: Daemon, way: Way, env: tuple[str, ...] = ()) -> GpuUnusable:
    """Start a container as a launch would; return the error that its user sees."""

    async def start() -> None:
        engine = DockerEngine(daemon.host)
        asked = request((UUID,), way, [f"nvidia.com/gpu={UUID}"])
        body: dict[str, Any] = {
            "Image": TINY,
            "Cmd": ["env"],
            "Env": [*(f"{name}={value}" for name, value in asked.env.items()), *env],
            "HostConfig": {"NetworkMode": "none", **asked.host_config},
        }
        try:
            made = await engine.create(body)
            try:
                await engine.start(made)
            finally:
                await engine.remove(made)
        finally:
            await engine.close()

    with pytest.raises(GpuUnusable) as caught:
        asyncio.run(start())
    return caught.value


def check(error: GpuUnusable, name: str, original: str) -> None:
    """Compare an error with the table's row: cause first, remedy, and the original below."""
    row = next(row for row in troubles.TABLE if row.name == name)
    assert (error.message, error.remedy) == (row.cause, row.remedy)
    assert original in error.details
    text = str(error)
    assert text.index(row.cause) < text.index(row.remedy) < text.index(original)


def test_every_row_is_tested() -> None:
    """No row of the table is left out here."""
    tested = {row[0] for row in ENGINE_ROWS} | set(TENSORFLOW_TEXTS)
    alone = {"hook-missing", "cdi-off", "runtime-unknown", "cdi-no-device"}
    assert tested | alone == {row.name for row in troubles.TABLE}


@pytest.mark.parametrize(("name", "way", "state", "original"), ENGINE_ROWS, ids=[row[0] for row in ENGINE_ROWS])
def test_what_nvidias_runtime_says(nvidia_machine: Machine, name: str, way: Way, state: State, original: str) -> None:
    """A text that NVIDIA's toolkit gives through the engine is told with cause and remedy."""
    nvidia_machine.set(state)
    check(refusal(nvidia_machine.daemon, way, ("NVIDIA_REQUIRE_CUDA=cuda>=12.3",)), name, original)


@pytest.mark.parametrize(
    ("name", "way", "original"),
    [
        ("hook-missing", "device-request", 'could not select device driver "" with capabilities: [[gpu]]'),
        ("cdi-off", "cdi", 'could not select device driver "cdi"'),
        ("runtime-unknown", "runtime", "Unknown runtime specified nvidia"),
    ],
)
def test_what_docker_says_itself(bare: Machine, name: str, way: Way, original: str) -> None:
    """The installed engine's own texts, where NVIDIA's toolkit was never installed."""
    check(refusal(bare.daemon, way), name, original)


@pytest.mark.parametrize(
    ("name", "way", "original"),
    [("cdi-no-device", "cdi", "unresolvable CDI devices"), ("runtime-unknown", "runtime", "runtime name: nvidia")],
)
def test_what_a_newer_docker_says_itself(knows_cdi: Machine, name: str, way: Way, original: str) -> None:
    """Docker 26.1's own texts: a GPU that its specification doesn't have, and the runtime's newer wording."""
    knows_cdi.set(machine(0))
    check(refusal(knows_cdi.daemon, way), name, original)


_DIE = """
import asyncio, json, os, sys
from jupyter_client.manager import AsyncKernelManager

async def main():
    accounts = {}
    for name, text in json.loads(sys.argv[1]).items():
        manager = AsyncKernelManager(kernel_name="dies")
        await manager.start_kernel(cwd=sys.argv[2], env=dict(os.environ))
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        client.execute(f"import os; open('/proc/1/fd/2', 'w').write({text!r} + chr(10)); os._exit(134)")
        await asyncio.wait_for(manager.provisioner.wait(), 30)
        manager.provisioner._active = True
        await manager.provisioner.poll()
        account = manager.provisioner._report
        accounts[name] = [account.message, account.remedy, account.details]
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
    print(json.dumps(accounts))

asyncio.run(main())
"""


def test_what_tensorflow_says_before_a_death(nvidia_machine: Machine, tmp_path: Path) -> None:
    """A kernel with a GPU that dies after one of TensorFlow's texts is told with cause, remedy and the text."""
    nvidia_machine.set(machine(1))
    nvidia_machine.install("dies")
    accounts = nvidia_machine.python(_DIE, json.dumps(TENSORFLOW_TEXTS), str(tmp_path))
    for name, text in TENSORFLOW_TEXTS.items():
        row = next(row for row in troubles.TABLE if row.name == name)
        message, remedy, details = accounts[name]
        assert row.cause in message, name
        assert remedy == row.remedy
        assert text in details
    nvidia_machine.clear()


def test_registry_rows_stay_the_registrys() -> None:
    """A rate limit or a blocked registry is no trouble of the GPU's."""
    assert troubles.find("toomanyrequests: You have reached your pull rate limit") is None
    assert troubles.find("403 Forbidden: Since Docker is a US company, we must comply with US export control") is None
