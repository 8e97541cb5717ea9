"""What a notebook needs of a GPU is held against what is here, before anything is fetched."""

from __future__ import annotations

import pytest

from tfgpu_kernel.gpu.nvml import Gpu, Memory, NvmlError, Sample
from tfgpu_kernel.lock import needs
from tfgpu_kernel.lock.needs import Need
from tfgpu_kernel.lock.record import GpuNeed

ANY = GpuNeed("required")
BIG = GpuNeed("required", (8, 0), 20 * 10**9)
MAYBE = GpuNeed("optional", (8, 0), None)


def card(name: str, capability: tuple[int, int] | None, gigabytes: int | None) -> Gpu:
    """Return a GPU."""
    memory = None if gigabytes is None else Memory(gigabytes * 10**9, 0, 0, None)
    return Gpu(0, "GPU-1", name, capability, memory, None)


T4, A100 = card("T4", (7, 5), 16), card("A100", (8, 0), 40)


@pytest.mark.parametrize(
    ("need", "cuda", "gpus", "told"),
    [
        (ANY, "", [T4], Need("a GPU", "here", "T4")),
        (BIG, "", [A100], Need("a GPU, compute capability 8.0, 20.0 GB of memory", "here", "A100")),
        (BIG, "", [T4], Need("a GPU, compute capability 8.0, 20.0 GB of memory", "too small",
                             "T4 has compute capability 7.5, 16.0 GB")),
        (BIG, "", [card("A40", (8, 6), 12)], Need("a GPU, compute capability 8.0, 20.0 GB of memory", "too small",
                                                  "A40 has 12.0 GB")),
        (BIG, "", [T4, A100], Need("a GPU, compute capability 8.0, 20.0 GB of memory", "here",
                                   "T4 has compute capability 7.5, 16.0 GB, A100")),
        (BIG, "", [card("Strange", None, None)], Need("a GPU, compute capability 8.0, 20.0 GB of memory", "here",
                                                      "Strange")),
        (MAYBE, "", [T4], Need("a GPU, or none, compute capability 8.0", "too small", "T4 has compute capability 7.5")),
        (ANY, "12.5", [A100], Need("a GPU", "here", "A100")),
        (ANY, "13.0", [A100], Need("a GPU", "too small", "driver 550.54 serves CUDA 12.4, the notebook's "
                                   "TensorFlow takes 13.0")),
        (ANY, "", [], Need("a GPU", "missing", "no GPU is here")),
        (MAYBE, "", [], Need("a GPU, or none, compute capability 8.0", "here", "it runs on the CPU")),
    ],
)  # fmt: skip
def test_gpus_are_judged(need: GpuNeed, cuda: str, gpus: list[Gpu], told: Need) -> None:
    """Compute capability, memory and driver are each named where they are too small."""
    assert needs.gpu(need, cuda, Sample("550.54", tuple(gpus), (), (12, 4))) == told


def test_no_driver() -> None:
    """Without a driver a GPU that is required is missing, with the reason."""
    error = NvmlError("there is no NVIDIA driver", None)
    assert needs.gpu(ANY, "", error) == Need("a GPU", "missing", "there is no NVIDIA driver")
    assert needs.gpu(MAYBE, "", error).state == "here"
