"""Which GPUs a kernel gets: judged from driver, NVML and engine before anything is created."""

from __future__ import annotations

from typing import Final

from .config import Gpus, KernelConfig
from .engine.base import EngineInfo
from .errors import ConfigError, GpuUnusable
from .gpu import nvml
from .gpu.request import RUNTIME, GpuRequest, request
from .progress import Report, Step

NVML_SECONDS: Final = 5.0
"""How long NVML may take; a GPU that fell off the bus can hang it."""


async def choose(config: KernelConfig, engine: EngineInfo, report: Report) -> GpuRequest:
    """Decide which GPUs a kernel gets, or say why there are none.

    :raises GpuUnusable: when a GPU is required and none is usable.
    :raises ConfigError: when a GPU is named that this machine hasn't.
    """
    if config.gpus == 0:
        return request(())
    try:
        sample = await usable(engine)
        uuids = pick(config.gpus, sample)
    except GpuUnusable as error:
        if config.gpu_required:
            raise
        report(Step("gpu", f"Running on the CPU: {error.message}"))
        return request(())
    report(Step("gpu", f"Using {len(uuids)} of {len(sample.gpus)} GPUs"))
    return request(uuids)


async def usable(engine: EngineInfo) -> nvml.Sample:
    """Return the machine's GPUs, if a container could use them.

    :raises GpuUnusable: with the lowest thing that is missing: driver, NVML, GPU, runtime.
    """
    try:
        sample = await nvml.sample_async(NVML_SECONDS)
    except nvml.NvmlError as error:
        raise GpuUnusable(
            f"This machine has no usable NVIDIA GPU: {error}",
            "install NVIDIA's driver, and see that nvidia-smi lists the GPU; to run on the CPU instead, choose "
            "TensorFlow CPU (Docker), or set gpu_required to false.",
        ) from error
    if not sample.gpus:
        raise GpuUnusable(
            "The NVIDIA driver runs, but sees no GPU.",
            "check that the GPU is plugged in and not lent to a virtual machine (nvidia-smi -L).",
        )
    if RUNTIME not in engine.runtimes:
        raise GpuUnusable(
            f"This machine has a GPU ({sample.gpus[0].name}), but its Docker engine {engine.version} "
            "doesn't know the nvidia runtime, which lends GPUs to containers.",
            "install nvidia-container-toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker "
            "&& sudo systemctl restart docker.",
        )
    return sample


def pick(wanted: Gpus, sample: nvml.Sample) -> tuple[str, ...]:
    """Choose GPUs: those named, all, or the ``wanted`` ones with most free memory.

    :raises GpuUnusable: when there are fewer than wanted.
    :raises ConfigError: when one is named that isn't here.
    """
    if wanted == "all":
        return tuple(gpu.uuid for gpu in sample.gpus)
    if isinstance(wanted, int):
        if wanted > len(sample.gpus):
            raise GpuUnusable(
                f"The kernel wants {wanted} GPUs, and this machine has {len(sample.gpus)}.",
                f"set gpus to {len(sample.gpus)} or less.",
            )
        free = sorted(sample.gpus, key=lambda gpu: (-(gpu.free_bytes or 0), gpu.index))
        return tuple(gpu.uuid for gpu in free[:wanted])
    known = {str(gpu.index): gpu.uuid for gpu in sample.gpus} | {
        uuid: uuid for gpu in sample.gpus for uuid in (gpu.uuid, *(mig.uuid for mig in gpu.mig_devices))
    }
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"The setting gpus names {', '.join(missing)}, which this machine hasn't.",
            f"choose among {', '.join(known)}.",
        )
    return tuple(known[name] for name in wanted)
