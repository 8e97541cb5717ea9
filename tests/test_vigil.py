"""What is told of a running kernel's GPUs: a driver that is slow, one that is silent, one that has lost a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.doubles import state as doubled
from tests.doubles.host import Host
from tests.doubles.state import State, machine
from tfgpu_kernel import vigil
from tfgpu_kernel.gpu.nvml import Gpu, MigDevice, NvmlError, Sample

_PRELUDE = """
import json, os, sys, threading, time
from pathlib import Path
from tfgpu_kernel import vigil
from tfgpu_kernel.runfolder import RunFolder

state, uuid, folder = sys.argv[1:4]
vigil.LOOK_SECONDS, vigil.NVML_SECONDS = 0.1, 0.05
run = RunFolder(Path(folder))
run.io.mkdir(parents=True)
told = []
def become(path):
    os.replace(path, state)
def until(enough, seconds=10):
    deadline = time.monotonic() + seconds
    while not enough() and time.monotonic() < deadline:
        time.sleep(0.05)
def end():
    print(json.dumps([str(one) for one in told]), flush=True)
    os._exit(0)
vigil.watch(run, [uuid], told.append)
"""
SLOW = {"nvmlDeviceGetHandleByIndex_v2": 300}


def watched(tmp_path: Path, first: State, code: str, *after: State) -> list[str]:
    """Watch a kernel's GPU in a process that sees the doubled driver; return what was told of it."""
    host = Host.make(tmp_path, first)
    paths = []
    for number, state in enumerate(after):
        paths.append(str(tmp_path / f"after-{number}"))
        state.write(Path(paths[-1]))
    arguments = (str(host.state_file), machine(1).gpus[0].uuid, str(tmp_path / "run"), *paths)
    told: Any = json.loads(host.python(_PRELUDE + code, *arguments))
    return [str(one) for one in told]


def test_a_slow_driver_is_no_lost_gpu(tmp_path: Path) -> None:
    """A driver that takes longer than many looks tells nothing; when it then says that a GPU is lost, that is told."""
    lost = machine(2, errors={doubled.EVERY: doubled.GPU_IS_LOST})
    code = """
time.sleep(2)
quiet = list(told)
become(sys.argv[4])
until(lambda: told)
assert not quiet, quiet
end()
"""
    (account,) = watched(tmp_path, machine(2, delays=SLOW), code, lost)
    assert "has lost its GPU" in account
    assert "off the bus" in account


def test_a_silent_driver_is_told_and_watched_on(tmp_path: Path) -> None:
    """Silence is told once, as what may be; the kernel is watched on, and a loss that shows later is told as one."""
    code = """
vigil.SILENT_SECONDS = 0.5
until(lambda: told)
time.sleep(0.5)
become(sys.argv[4])
until(lambda: len(told) > 1)
end()
"""
    hung = machine(1, delays={"nvmlDeviceGetCount_v2": 2000})
    first, second = watched(tmp_path, hung, code, machine(0))
    assert "may have lost its GPU: the NVIDIA driver has given no answer for" in first
    assert "has lost its GPU" in second


def test_what_the_driver_says_of_gpus() -> None:
    """A GPU or MIG device that is listed is there, also where it may not be lent any more; an error is its cause."""
    mig = MigDevice("MIG-a", slot=0)
    cut = Gpu(0, "GPU-0", "A100", (8, 0), None, None, mig_mode=True, mig_devices=(mig,))
    sample = Sample("580", (cut, replace(cut, index=1, uuid="GPU-1", mig_mode=False, mig_devices=())))
    assert not vigil.lost(["MIG-a", "GPU-1"], sample)
    assert vigil.lost(["GPU-2"], sample) == "the driver doesn't list it any more"
    assert vigil.lost(["GPU-1"], NvmlError("it is gone", 15)) == "it is gone"


def test_a_start_says_what_it_waits_for(tmp_path: Path) -> None:
    """A start outlasts a driver that is slow, and says so after some seconds; a quick one is not told of."""
    code = """
import asyncio, json
from tfgpu_kernel import gpus
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import EngineInfo
from tfgpu_kernel.policy import Policy

info = EngineInfo("28.5", "1.51", "linux", "x86_64", "here", "Debian", ("nvidia",), False, False, "/d", 2, 2**30)
gpus.TELL_SECONDS = 0.5
steps = []
judged = asyncio.run(gpus.judge(KernelConfig(), Policy(), info, lambda step: steps.append(step.text)))
print(json.dumps([len(judged.likely), steps]))
"""
    host = Host.make(tmp_path, machine(8, delays={"nvmlDeviceGetHandleByIndex_v2": 100}))
    assert json.loads(host.python(code)) == [1, ["Asking the NVIDIA driver (slow without nvidia-persistenced)"]]
    host.set(machine(8))
    assert json.loads(host.python(code)) == [1, []]
