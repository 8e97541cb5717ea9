"""What NVIDIA's driver says of the GPUs, through NVML (nvidia-ml-py).

The library is loaded at the first sample, never at import. Calls block, some for long when a GPU is in
trouble, so :func:`sample_async` gives them a thread. What the driver doesn't tell is None, never 0.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

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
_lock = threading.Lock()


class NvmlError(Exception):
    """NVML gives no answer; the text is the cause in words."""


@dataclass(frozen=True)
class MigDevice:
    """A part of a GPU that is lent on its own."""

    uuid: str


@dataclass(frozen=True)
class Gpu:
    """One GPU as it is now. Sizes in bytes, utilisation in percent."""

    index: int
    uuid: str
    name: str
    compute_capability: tuple[int, int] | None
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    utilisation: int | None
    mig_devices: tuple[MigDevice, ...] = ()


@dataclass(frozen=True)
class Sample:
    """All GPUs at one moment."""

    driver: str
    gpus: tuple[Gpu, ...]


def sample() -> Sample:
    """Ask NVML; blocks.

    :raises NvmlError: when there is no driver, no library, or they don't match.
    """
    with _lock:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlError(_CAUSES.get(error.value, f"NVML says: {error}")) from error
        try:
            driver = pynvml.nvmlSystemGetDriverVersion()
            found = (_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
            return Sample(str(driver), tuple(gpu for gpu in found if gpu is not None))
        except pynvml.NVMLError as error:
            raise NvmlError(_CAUSES.get(error.value, f"NVML says: {error}")) from error
        finally:
            pynvml.nvmlShutdown()


async def sample_async(seconds: float) -> Sample:
    """Ask NVML in a thread.

    :raises NvmlError: also when there is no answer within ``seconds``.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sample] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: Any) -> None:
        if not answer.done():
            set_it(value)

    def run() -> None:
        try:
            loop.call_soon_threadsafe(settle, answer.set_result, sample())
        except NvmlError as error:
            loop.call_soon_threadsafe(settle, answer.set_exception, error)

    # A daemon thread of its own: a pool's thread that hangs in NVML would hold up the process's end.
    threading.Thread(target=run, name="tfgpu-nvml", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, seconds)
    except asyncio.TimeoutError as error:
        raise NvmlError(f"NVML gave no answer within {seconds:g} s; a GPU may be in trouble") from error


def _gpu(index: int) -> Gpu | None:
    """Return one GPU; None for one that doesn't even tell its name, so that it hides no other."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return None
    memory = _or_none(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    capability = _or_none(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    utilisation = _or_none(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return Gpu(
        index=index,
        uuid=uuid,
        name=name,
        compute_capability=tuple(capability) if capability else None,
        total_bytes=memory.total if memory else None,
        used_bytes=memory.used if memory else None,
        free_bytes=memory.free if memory else None,
        utilisation=utilisation,
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except pynvml.NVMLError:
        return None
