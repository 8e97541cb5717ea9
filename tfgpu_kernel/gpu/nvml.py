"""What NVIDIA's driver says of the GPUs, through NVML (nvidia-ml-py).

The library is loaded at the first sample, never at import. Calls block, some for long when a GPU is in
trouble, so :func:`sample_async` gives them a thread. What the driver doesn't tell is None, never 0.

Each sample opens and closes NVML, so that a driver that goes away and comes back is simply found again, and
a Jupyter server that nobody looks at keeps no administrator from changing the driver. Opening is counted: who
samples often holds NVML open around it (:func:`held`), because the real library takes long to open.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import pynvml

T = TypeVar("T")

_CAUSES: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "there is no NVIDIA driver (libnvidia-ml.so.1 was not found)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVIDIA's library is installed, but its kernel driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was upgraded, but the old one is still loaded; a reboot mends that"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not use the NVIDIA driver",
    pynvml.NVML_ERROR_GPU_IS_LOST: "a GPU has fallen off the bus; a reboot may bring it back",
}
ComputeMode = Literal["default", "prohibited", "exclusive-process"]
"""How many processes may compute on a GPU at a time: any number, none, one."""
_MODES: Final[Mapping[int, ComputeMode]] = {
    pynvml.NVML_COMPUTEMODE_DEFAULT: "default",
    pynvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD: "exclusive-process",  # old drivers' name for it
    pynvml.NVML_COMPUTEMODE_PROHIBITED: "prohibited",
    pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: "exclusive-process",
}
_lock = threading.Lock()
"""Held while NVML is asked."""
_kept_since: float | None = None
"""Since when NVML is kept open between samples; ``_lock`` guards it."""
_starting = threading.Lock()
_under_way: Future[Sample] | None = None
"""The answer that :func:`sample_async` waits for; ``_starting`` guards it."""


LIBRARY_NOT_FOUND: Final = int(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
DRIVER_NOT_LOADED: Final = int(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
VERSION_MISMATCH: Final = int(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
NO_PERMISSION: Final = int(pynvml.NVML_ERROR_NO_PERMISSION)


PATIENCE_SECONDS: Final = 60.0
"""How long a sound driver may take to answer: without persistence mode it starts up each GPU that nobody uses when it
is asked, for one to three seconds each (25 s were seen on machines with eight). A GPU off the bus can hang it."""
SLOW: Final = "slow without nvidia-persistenced"


class NvmlError(Exception):
    """NVML gives no answer; the text is the cause in words, ``code`` NVML's own where there is one."""

    def __init__(self, cause: str, code: int | None = None) -> None:
        super().__init__(cause)
        self.code = code


@dataclass(frozen=True)
class Memory:
    """A device's memory in bytes.

    ``used_bytes`` is what processes hold, and ``reserved_bytes`` what the driver keeps for itself. Where the
    driver doesn't tell them apart (old ones, WSL2), ``reserved_bytes`` is None and ``used_bytes`` has both.
    """

    total_bytes: int
    used_bytes: int
    free_bytes: int
    reserved_bytes: int | None


Processes = Mapping[int, int | None]
"""Host process id to the bytes of device memory it holds, None where the driver doesn't tell how many."""


@dataclass(frozen=True)
class MigDevice:
    """A part of a GPU that is lent on its own."""

    uuid: str
    name: str | None = None
    memory: Memory | None = None
    processes: Processes | None = None
    slot: int | None = None
    """Its place on its GPU; NVIDIA's tools name it ``GPU:SLOT``."""


@dataclass(frozen=True)
class Gpu:
    """One GPU as it is now.

    :param index: its place in NVML's order, which a reboot may change.
    :param utilisation: percent of the last moments in which something ran on it; None also under MIG.
    :param mig_mode: whether it is cut into MIG devices; None where the model knows no MIG.
    :param processes: who holds its memory; under MIG the devices tell, not the GPU.
    """

    index: int
    uuid: str
    name: str
    compute_capability: tuple[int, int] | None
    memory: Memory | None
    utilisation: int | None
    pci_bus_id: str | None = None
    mig_mode: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    processes: Processes | None = None
    drawing: frozenset[int] = frozenset()
    """Those of the processes that only draw, such as a desktop's display server."""
    compute_mode: ComputeMode | None = None
    persistent: bool | None = None
    """Whether the driver keeps it started up while nobody uses it (persistence mode)."""

    @property
    def free_bytes(self) -> int | None:
        """Memory that nobody holds, where the driver tells."""
        return self.memory.free_bytes if self.memory else None


@dataclass(frozen=True)
class FailedGpu:
    """A GPU that the driver lists, but that can't be asked; ``cause`` in words."""

    index: int
    cause: str


@dataclass(frozen=True)
class Sample:
    """All GPUs at one moment; one that fails alone hides no other.

    ``cuda`` is the newest CUDA version that the driver serves, as (major, minor).
    """

    driver: str
    gpus: tuple[Gpu, ...]
    failed: tuple[FailedGpu, ...] = ()
    cuda: tuple[int, int] | None = None


@contextmanager
def held() -> Iterator[None]:
    """Keep NVML open, so that the samples within cost little; blocks while it opens.

    :raises NvmlError: when there is no driver, no library, or they don't match.
    """
    with _lock:
        _open()
    try:
        yield
    finally:
        with _lock:
            _close()


def sample(keep_seconds: float = 0) -> Sample:
    """Ask NVML; blocks.

    :param keep_seconds: leave NVML open for the samples to come, until :func:`release`, an error, or so much
        later: an open NVML never hears of a GPU that was plugged in since, so it is opened anew from time to time.
    :raises NvmlError: when there is no driver, no library, or they don't match.
    """
    with _lock:
        _open()
        try:
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            cuda = _or_none(pynvml.nvmlSystemGetCudaDriverVersion_v2)
            gpus, failed = [], []
            for index in range(pynvml.nvmlDeviceGetCount()):
                try:
                    gpus.append(_gpu(index))
                except pynvml.NVMLError as error:
                    failed.append(FailedGpu(index, _cause(error)))
            if keep_seconds:
                _keep(keep_seconds)
        except pynvml.NVMLError as error:
            _keep(0)
            raise NvmlError(_cause(error), int(error.value)) from error
        finally:
            _close()
    # NVML's form of a CUDA version is 1000 * major + 10 * minor.
    return Sample(driver, tuple(gpus), tuple(failed), (cuda // 1000, cuda % 1000 // 10) if cuda else None)


def ask(keep_seconds: float = 0) -> Future[Sample]:
    """Begin to ask NVML in a thread; return the answer to come, or the one that is under way already.

    :param keep_seconds: as in :func:`sample`.
    """
    global _under_way
    with _starting:
        answer = _under_way
        if answer is None or answer.done():
            answer = _under_way = Future()
            # A future that runs can't be cancelled: who gives up must not take the answer from the others.
            answer.set_running_or_notify_cancel()
            # A daemon thread of its own: a pool's thread that hangs in NVML would hold up the process's end.
            threading.Thread(target=_settle, args=(answer, keep_seconds), name="tfgpu-nvml", daemon=True).start()
        return answer


async def sample_async(seconds: float, keep_seconds: float = 0) -> Sample:
    """Ask NVML in a thread.

    Who asks while an answer is under way gets that one, so a hung NVML holds one thread, never more.

    :param keep_seconds: as in :func:`sample`.
    :raises NvmlError: also when there is no answer within ``seconds``.
    """
    try:
        return await asyncio.wait_for(asyncio.wrap_future(ask(keep_seconds)), seconds)
    except asyncio.TimeoutError as error:
        raise NvmlError(f"NVML gave no answer within {seconds:g} s; a GPU may be in trouble") from error


def release() -> None:
    """Close an NVML that was kept open; blocks while a sample is under way."""
    with _lock:
        _keep(0)


def _settle(answer: Future[Sample], keep_seconds: float) -> None:
    try:
        answer.set_result(sample(keep_seconds))
    except Exception as error:  # whatever it is, it is the asker's
        answer.set_exception(error)


def _keep(seconds: float) -> None:
    """Open NVML once more, or close it once more, as it is to be kept or not."""
    global _kept_since
    now = time.monotonic()
    if _kept_since is None and seconds:
        _open()
        _kept_since = now
    elif _kept_since is not None and now - _kept_since >= seconds:
        _close()
        _kept_since = None


def _cause(error: pynvml.NVMLError) -> str:
    return _CAUSES.get(error.value, f"NVML says: {error}")


def _open() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlError(_cause(error), int(error.value)) from error


def _close() -> None:
    # A driver that went away in between can't be closed, and need not.
    _or_none(pynvml.nvmlShutdown)


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    capability = _or_none(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    mode = _or_none(pynvml.nvmlDeviceGetMigMode, handle)
    rates = _or_none(pynvml.nvmlDeviceGetUtilizationRates, handle)
    pci = _or_none(pynvml.nvmlDeviceGetPciInfo, handle)
    compute_mode = _or_none(pynvml.nvmlDeviceGetComputeMode, handle)
    persistence = _or_none(pynvml.nvmlDeviceGetPersistenceMode, handle)
    processes, drawing = (None, frozenset[int]()) if mode and mode[0] else _processes(handle)
    return Gpu(
        index=index,
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        compute_capability=tuple(capability) if capability else None,
        memory=_memory(handle),
        utilisation=rates.gpu if rates else None,
        pci_bus_id=_text(pci.busId) if pci else None,
        mig_mode=bool(mode[0]) if mode else None,
        mig_devices=tuple(_mig_devices(handle)) if mode and mode[0] else (),
        processes=processes,
        drawing=drawing,
        compute_mode=None if compute_mode is None else _MODES.get(compute_mode),
        persistent=None if persistence is None else bool(persistence),
    )


def _mig_devices(handle: Any) -> Iterator[MigDevice]:
    for slot in range(_or_none(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        device = _or_none(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, slot)
        uuid = _or_none(pynvml.nvmlDeviceGetUUID, device) if device else None  # slots may be empty
        if uuid:
            name = _or_none(pynvml.nvmlDeviceGetName, device)
            yield MigDevice(str(uuid), str(name) if name else None, _memory(device), _processes(device)[0], slot)


def _memory(handle: Any) -> Memory | None:
    # The call's second version sets the driver's reserve apart; old drivers and WSL2 know the first alone.
    new = _or_none(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    if new:
        return Memory(new.total, new.used, new.free, new.reserved)
    old = _or_none(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return Memory(old.total, old.used, old.free, None) if old else None


def _processes(handle: Any) -> tuple[Processes | None, frozenset[int]]:
    """Return who holds the device's memory, None where the driver doesn't tell, and who of them only draws."""
    # The second of each two is the one that drivers before R510 have.
    computing = _first_told(
        (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetComputeRunningProcesses_v2), handle
    )
    drawing = _first_told(
        (pynvml.nvmlDeviceGetGraphicsRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2), handle
    )
    if computing is None:  # who draws says nothing of who computes
        return None, frozenset()
    # A process that computes and draws is in both lists, with the same figure.
    found = {process.pid: process.usedGpuMemory for process in (*computing, *(drawing or ()))}
    return found, frozenset(found) - {process.pid for process in computing}


def _first_told(calls: tuple[Callable[..., T], ...], handle: Any) -> T | None:
    return next((told for call in calls if (told := _or_none(call, handle)) is not None), None)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _or_none(ask: Callable[..., T], *arguments: Any) -> T | None:
    try:
        return ask(*arguments)
    # A function that an old driver lacks may raise the second one, which is no NVMLError.
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
        return None
