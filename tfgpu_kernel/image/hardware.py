"""What decides which images a machine can run: its processor, the GPUs a kernel gets, and their driver."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from ..engine.base import Engine, EngineInfo
from ..gpu.nvml import Sample
from .presets import AMD64, Capability


@dataclass(frozen=True)
class Hardware:
    """A machine, as far as images are concerned. What is not known is None."""

    architecture: str = "x86_64"
    gpus: tuple[tuple[str, Capability | None], ...] = ()
    """Name and compute capability of each GPU that the kernel gets."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver serves."""
    gpu_wanted: bool = True
    """Whether a GPU was asked for; without one granted, the kernel then runs on the CPU in the GPU's image."""
    free_bytes: int | None = None
    """What is free where the engine keeps its images."""

    @classmethod
    def of(cls, sample: Sample | None, architecture: str = "x86_64", free: int | None = None) -> Hardware:
        """Return a machine whose GPUs are all to be had; ``sample`` is None where NVML tells nothing."""
        if sample is None:
            return cls(architecture, free_bytes=free)
        found = tuple((gpu.name, gpu.compute_capability) for gpu in sample.gpus)
        return cls(architecture, found, sample.cuda, free_bytes=free)

    @property
    def amd64(self) -> bool:
        """Whether the processor is the one that the official images are for."""
        return self.architecture in ("", *AMD64)


def free_bytes(engine: Engine, info: EngineInfo) -> int | None:
    """Return what is free on the disk of the engine's images, where it is one of this machine."""
    if not engine.is_local or not os.path.isdir(info.root_dir):
        return None
    try:
        return shutil.disk_usage(info.root_dir).free
    except OSError:
        return None
