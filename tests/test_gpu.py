"""The door to NVML, against a compiled double of NVIDIA's library.

Each case is a process of its own, because nvidia-ml-py loads the library once. ``_ASK`` prints the sample as
Python's own text, which the tests read back into the records.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.doubles import state as doubled
from tests.doubles.host import Host
from tests.doubles.state import GIB, MIB, Process, State, machine, mixed, partitioned
from tfgpu_kernel.gpu.nvml import FailedGpu, Gpu, Memory, MigDevice, NvmlError, Sample

_ASK: Final = """
from tfgpu_kernel.gpu import nvml
try:
    print(nvml.sample())
except nvml.NvmlError as error:
    print(f"NvmlError({str(error)!r})")
"""


def ask(host: Host) -> Sample | NvmlError:
    """Take one sample in a fresh process on a host."""
    records = {kind.__name__: kind for kind in (FailedGpu, Gpu, Memory, MigDevice, NvmlError, Sample)}
    answer = eval(host.python(_ASK), records)  # noqa: S307 - the text is our own records' repr
    assert isinstance(answer, Sample | NvmlError)
    return answer


def sample(tmp_path: Path, state: State, *leave_out: str) -> Sample:
    """Take one sample of a machine that must give one."""
    answer = ask(Host.make(tmp_path, state, leave_out))
    assert isinstance(answer, Sample), answer
    return answer


def refusal(tmp_path: Path, state: State) -> str:
    """Take one sample of a machine that must give none; return the cause in words."""
    answer = ask(Host.make(tmp_path, state))
    assert isinstance(answer, NvmlError), answer
    return str(answer)


def test_one_gpu_is_told_whole(tmp_path: Path) -> None:
    """Each figure reaches its field, the driver's reserve apart from what processes hold."""
    state = machine(1).with_gpu(
        0,
        used_bytes=5 * GIB,
        reserved_bytes=600 * MIB,
        utilisation_percent=37,
        processes=(Process(4711, 5 * GIB),),
    )
    assert sample(tmp_path, state) == Sample(
        driver="580.95.05",
        cuda=(13, 0),
        gpus=(
            Gpu(
                index=0,
                uuid=state.gpus[0].uuid,
                name="NVIDIA A100-SXM4-40GB",
                compute_capability=(8, 0),
                memory=Memory(40 * GIB, 5 * GIB, 35 * GIB - 600 * MIB, 600 * MIB),
                utilisation=37,
                pci_bus_id="00000000:01:00.0",
                processes={4711: 5 * GIB},
                compute_mode="default",
            ),
        ),
    )


def test_mixed_models_keep_their_order(tmp_path: Path) -> None:
    """Index, name and compute capability belong together."""
    gpus = sample(tmp_path, mixed()).gpus
    assert [(gpu.index, gpu.name, gpu.compute_capability) for gpu in gpus] == [
        (0, "Tesla K80", (3, 7)),
        (1, "Tesla T4", (7, 5)),
        (2, "NVIDIA RTX 6000 Ada Generation", (8, 9)),
    ]


def test_mig_devices_tell_for_themselves(tmp_path: Path) -> None:
    """Under MIG the parts have memory and processes, and the whole's use is not known."""
    state = partitioned()
    mig = (replace(state.gpus[0].mig[0], used_bytes=GIB, processes=(Process(99, GIB),)), state.gpus[0].mig[1])
    cut, whole = sample(tmp_path, state.with_gpu(0, mig=mig)).gpus
    assert (cut.mig_mode, cut.utilisation, cut.processes) == (True, None, None)
    assert [device.uuid for device in cut.mig_devices] == [device.uuid for device in mig]
    assert [device.processes for device in cut.mig_devices] == [{99: GIB}, {}]
    first = cut.mig_devices[0].memory
    assert first is not None and first.used_bytes == GIB
    assert (whole.mig_mode, whole.mig_devices, whole.processes) == (False, (), {})


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    """An absent figure is None, never 0: utilisation, MIG, a process's memory (WSL2), the list of who computes."""
    state = machine(1).with_gpu(
        0,
        utilisation_percent=None,
        processes=(Process(7, None),),
        errors={
            "nvmlDeviceGetMemoryInfo_v2": doubled.NOT_SUPPORTED,
            "nvmlDeviceGetMemoryInfo": doubled.NOT_SUPPORTED,
        },
    )
    (gpu,) = sample(tmp_path, state).gpus
    assert (gpu.utilisation, gpu.mig_mode, gpu.memory, gpu.free_bytes, gpu.processes) == (None,) * 4 + (
        {7: None},
    )
    lists = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
    mute = state.with_gpu(0, errors=dict.fromkeys(lists, doubled.NOT_SUPPORTED))
    assert sample(tmp_path, mute).gpus[0].processes is None


@pytest.mark.parametrize("how", ["lacks the function", "refuses it"])
def test_memory_falls_back_to_the_first_call(tmp_path: Path, how: str) -> None:
    """Where the second memory call is missing or fails, the first counts the reserve as used."""
    state = machine(1).with_gpu(0, used_bytes=GIB, reserved_bytes=GIB)
    if how == "refuses it":
        memory = sample(tmp_path, replace(state, errors={"nvmlDeviceGetMemoryInfo_v2": 25})).gpus[0].memory
    else:
        memory = sample(tmp_path, state, "nvmlDeviceGetMemoryInfo_v2").gpus[0].memory
    assert memory == Memory(40 * GIB, 2 * GIB, 38 * GIB, None)


def test_an_old_driver_with_few_functions(tmp_path: Path) -> None:
    """What an old library lacks is None; the rest is told."""
    lacking = (
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlSystemGetCudaDriverVersion_v2",
    )
    answer = sample(tmp_path, machine(2), *lacking)
    assert answer.cuda is None
    assert [gpu.mig_mode for gpu in answer.gpus] == [None, None]
    assert answer.gpus[0].memory is not None


def test_a_lost_gpu_hides_no_other(tmp_path: Path) -> None:
    """One GPU that fell off the bus is named with its cause, and its neighbours are there."""
    answer = sample(tmp_path, machine(3).with_gpu(1, errors={doubled.EVERY: doubled.GPU_IS_LOST}))
    assert [gpu.index for gpu in answer.gpus] == [0, 2]
    assert [(gpu.index, "off the bus" in gpu.cause) for gpu in answer.failed] == [(1, True)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (doubled.DRIVER_NOT_LOADED, "kernel driver is not loaded"),
        (doubled.VERSION_MISMATCH, "a reboot"),
        (doubled.NO_PERMISSION, "may not use the NVIDIA driver"),
        (doubled.UNKNOWN, "Unknown Error"),
    ],
)
def test_no_answer_has_its_cause(tmp_path: Path, code: int, words: str) -> None:
    """Each way in which NVML does not start is told in words."""
    assert words in refusal(tmp_path, machine(1, errors={"nvmlInit_v2": code}))


def test_no_library_is_no_driver(tmp_path: Path) -> None:
    """A machine without the library has no driver, and says so."""
    host = replace(Host.make(tmp_path, machine(1)), libraries=tmp_path)
    answer = ask(host)
    assert isinstance(answer, NvmlError) and "no NVIDIA driver" in str(answer)


def test_the_driver_goes_and_comes_back(tmp_path: Path) -> None:
    """One process sees the driver, its loss, and its return, with NVML held open or not."""
    host = Host.make(tmp_path, machine(2))
    code = """
import os, sys
from contextlib import nullcontext
from tfgpu_kernel.gpu import nvml
state, lost, back, held = sys.argv[1:]
def count():
    try:
        return len(nvml.sample().gpus)
    except nvml.NvmlError as error:
        return str(error)
with nvml.held() if held == "held" else nullcontext():
    counts = [count()]
    for text in (lost, back):
        os.replace(text, state)
        counts.append(count())
print(counts)
"""
    for held in ("held", "not"):
        host.set(machine(2))
        machine(2, errors={doubled.EVERY: doubled.GPU_IS_LOST}).write(tmp_path / "lost")
        machine(3).write(tmp_path / "back")
        names = [str(tmp_path / name) for name in ("state", "lost", "back")]
        first, middle, last = eval(host.python(code, *names, held))  # noqa: S307 - a list that the code above prints
        assert (first, last) == (2, 3)
        assert "off the bus" in middle


def test_a_hung_driver_holds_neither_loop_nor_threads(tmp_path: Path) -> None:
    """While NVML hangs the loop turns, askers get the cause in time, one thread waits, the process can end."""
    host = Host.make(tmp_path, machine(1, delays={"nvmlDeviceGetCount_v2": 20_000}))
    code = """
import asyncio, threading, time
from tfgpu_kernel.gpu import nvml

async def main():
    worst = 0.0
    async def beat():
        nonlocal worst
        while True:
            then = time.perf_counter()
            await asyncio.sleep(0.01)
            worst = max(worst, time.perf_counter() - then)
    beating = asyncio.create_task(beat())
    answers = await asyncio.gather(*(nvml.sample_async(0.3) for _ in range(5)), return_exceptions=True)
    beating.cancel()
    assert all("no answer within 0.3 s" in str(answer) for answer in answers), answers
    assert worst < 0.25, worst
    assert sum(thread.name == "tfgpu-nvml" for thread in threading.enumerate()) == 1

started = time.perf_counter()
asyncio.run(main())
print(time.perf_counter() - started)
"""
    assert float(host.python(code)) < 10


def test_a_sample_is_cheap(tmp_path: Path) -> None:
    """A sample of 8 GPUs with 50 processes costs at most 3 ms of CPU time, the double's share included."""
    state = machine(8)
    for index in range(8):
        count = 7 if index < 2 else 6
        state = state.with_gpu(index, processes=tuple(Process(1000 * index + i, MIB) for i in range(count)))
    assert sum(len(gpu.processes) for gpu in state.gpus) == 50
    code = """
import time
from tfgpu_kernel.gpu import nvml
with nvml.held():
    nvml.sample()
    medians = []
    while len(medians) < 10 and min(medians, default=9) > 3:  # a machine may be slow for some seconds
        time.sleep(0.5 if medians else 0)
        costs = []
        for _ in range(50):
            then = time.process_time()
            nvml.sample()
            costs.append((time.process_time() - then) * 1000)
        medians.append(sorted(costs)[25])
print(min(medians))
"""
    assert float(Host.make(tmp_path, state).python(code)) <= 3


def test_importing_loads_no_library(tmp_path: Path) -> None:
    """The driver's library is opened by the first sample, never by an import."""
    code = """
import tfgpu_kernel.gpu.nvml as nvml
loaded = lambda: "libnvidia-ml" in open("/proc/self/maps").read()
before = loaded()
nvml.sample()
print((before, loaded()))
"""
    assert Host.make(tmp_path, machine(1)).python(code).strip() == "(False, True)"


@pytest.mark.parametrize(
    ("state", "code"),
    [(machine(2), 0), (machine(2, cuinit=34), 34), (machine(0), 100)],
    ids=["well", "stub library", "no device"],
)
def test_the_cuda_stand_in(tmp_path: Path, state: State, code: int) -> None:
    """The doubled libcuda initialises, or fails with the code that the machine's state says."""
    ask_cuda = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    assert int(Host.make(tmp_path, state).python(ask_cuda)) == code


def test_who_sleeps_is_told(tmp_path: Path) -> None:
    """Whether a GPU stays started up while nobody uses it is told, or None."""
    state = machine(3).with_gpu(0, persistence=True).with_gpu(1, persistence=False)
    assert [gpu.persistent for gpu in sample(tmp_path, state).gpus] == [True, False, None]


def test_an_old_driver_names_its_processes(tmp_path: Path) -> None:
    """Drivers before R510 have the older call for processes alone, and it is asked."""
    state = machine(1).with_gpu(0, processes=(Process(4711, GIB),))
    (gpu,) = sample(tmp_path, state, "nvmlDeviceGetComputeRunningProcesses_v3").gpus
    assert gpu.processes == {4711: GIB}


def test_compute_modes_are_told(tmp_path: Path) -> None:
    """How many processes may compute on a GPU, where the driver tells."""
    state = machine(4).with_gpu(1, compute_mode=2).with_gpu(2, compute_mode=3).with_gpu(3, compute_mode=None)
    told = [gpu.compute_mode for gpu in sample(tmp_path, state).gpus]
    assert told == ["default", "prohibited", "exclusive-process", None]
