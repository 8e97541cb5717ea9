"""What stands beside the ladder: the engine itself, disk, image, and whether GPU, driver and image fit. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from packaging.version import InvalidVersion, Version

from ..engine.base import EngineInfo, ImageRecord
from ..errors import EngineRefused, TfgpuError
from ..gpu import nvml
from ..image.presets import BUILT
from . import remedies
from .facts import Facts
from .findings import Finding, State

OLDEST_ENGINE: Final = Version("20.10")
LITTLE_SPACE: Final = 10 * 10**9
"""A GPU image of TensorFlow is 6 to 7 GB, and is unpacked beside its download."""
NO_SPACE: Final = 2 * 10**9
FIRST_CUDA: Final = (
    ((12, 0), (12, 8)),
    ((10, 0), (12, 8)),
    ((9, 0), (11, 8)),
    ((8, 9), (11, 8)),
    ((8, 6), (11, 1)),
    ((8, 0), (11, 0)),
    ((7, 5), (10, 0)),
)
"""Compute capability, and the CUDA that first compiled for it (NVIDIA's release notes)."""
LAST_CUDA: Final = (((5, 0), 11), ((7, 5), 12))
"""GPUs below this compute capability are served up to this major version of CUDA."""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's name of a processor, and the images'."""


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return what stands beside the ladder."""
    found = (_engine(facts), _disk(facts), _image(facts), _fit(facts), _restart(facts))
    return tuple(replace(finding, part="beside") for finding in found)


def _engine(facts: Facts) -> Finding:
    title = "engine"
    engine = facts.engine
    if isinstance(engine, TfgpuError):
        return Finding("engine", title, "broken", engine.message, engine.remedy, engine.details)
    kind = " (rootless)" if engine.rootless else " (snap)" if remedies.is_snap(engine) else ""
    text = f"Engine {engine.version}{kind} answers, and this user may use it."
    if remedies.is_snap(engine):
        return Finding("engine", title, "warning", text, remedies.register(engine))
    try:
        old = Version(engine.version.partition("+")[0]) < OLDEST_ENGINE and not engine.cdi
    except InvalidVersion:
        old = False
    if old:
        return Finding(
            "engine",
            title,
            "warning",
            f"{text} It is older than {OLDEST_ENGINE}, which this package is tested with.",
            "upgrade Docker.",
        )
    return Finding("engine", title, "ok", text)


def _disk(facts: Facts) -> Finding:
    title = "disk"
    if facts.free_bytes is None:
        return Finding("disk", title, "not reached", "This user can't see the engine's disk.", "docker system df.")
    free = f"{facts.free_bytes / 1e9:.0f} GB are free where the engine keeps its images"
    if facts.free_bytes < LITTLE_SPACE:
        state: State = "broken" if facts.free_bytes < NO_SPACE else "warning"
        return Finding(
            "disk",
            title,
            state,
            f"Only {free}; a GPU image takes 6 to 7 GB.",
            "jupyter tfgpu prune --all, then docker system df shows what else there is.",
        )
    return Finding("disk", title, "ok", f"{free}.")


def _image(facts: Facts) -> Finding:
    title = "image"
    if not isinstance(facts.engine, EngineInfo):
        return Finding("image", title, "not reached", "Not looked at: the engine comes first.")
    if isinstance(facts.image, EngineRefused):
        return Finding(
            "image",
            title,
            "broken",
            f"{facts.reference} is no name that the engine takes for an image's.",
            "set image to one that it takes, such as tensorflow/tensorflow:2.17.0-gpu (in small letters).",
            facts.image.details,
        )
    if isinstance(facts.image, TfgpuError):
        return Finding("image", title, "broken", facts.image.message, facts.image.remedy, facts.image.details)
    if facts.image is None:
        first = "no kernel starts in it" if facts.reference.startswith(BUILT) else "the first start pulls it"
        return Finding("image", title, "warning", f"{facts.reference} is not here yet; {first}.", facts.getting)
    here = _ARCHITECTURES.get(facts.engine.architecture, facts.engine.architecture)
    if facts.image.architecture not in {"", here}:
        return Finding(
            "image",
            title,
            "broken",
            f"{facts.reference} is for {facts.image.architecture}, and this machine is {facts.engine.architecture}.",
            "choose an image for this machine.",
        )
    return Finding("image", title, "ok", f"{facts.reference} is here ({facts.image.size_bytes / 1e9:.1f} GB).")


def _fit(facts: Facts) -> Finding:
    title = "GPU, driver and image"
    if not isinstance(facts.sample, nvml.Sample) or not isinstance(facts.image, ImageRecord):
        return Finding("fit", title, "not reached", "Not looked at: that takes a driver and the image.")
    cuda = image_cuda(facts.image)
    if cuda is None:
        return Finding("fit", title, "ok", "The image doesn't say which CUDA it has; the rungs above tell.")
    named = f"The image has CUDA {cuda[0]}.{cuda[1]}"
    served = facts.sample.cuda
    if served and cuda[0] > served[0]:
        return Finding(
            "fit",
            title,
            "broken",
            f"{named}, and the driver {facts.sample.driver} serves up to {served[0]}.{served[1]}.",
            "upgrade the driver, or choose an older image.",
        )
    for gpu in facts.sample.gpus:
        problem = gpu_fit(gpu.compute_capability, cuda)
        if problem:
            return Finding(
                "fit",
                title,
                "warning",
                f"{named}, {problem} ({gpu.name}).",
                "choose another image; tensorflow/tensorflow:2.17.0-gpu has CUDA 12.3.",
            )
    return Finding("fit", title, "ok", f"{named}; driver and GPUs serve it.")


def image_cuda(image: ImageRecord) -> tuple[int, int] | None:
    """Return the CUDA version that an image says it has, as NVIDIA's images do."""
    for entry in image.env:
        name, _, value = entry.partition("=")
        if name == "CUDA_VERSION":
            parts = value.split(".")
            if len(parts) >= 2 and parts[0].isdecimal() and parts[1].isdecimal():
                return int(parts[0]), int(parts[1])
    return None


def gpu_fit(capability: tuple[int, int] | None, cuda: tuple[int, int]) -> str:
    """Return why a CUDA has no code for a GPU, in words; empty where it has."""
    if capability is None:
        return ""
    first = next((version for least, version in FIRST_CUDA if capability >= least), None)
    if first and cuda < first:
        return (
            f"which is older than this GPU (it came with {first[0]}.{first[1]}): the first use compiles "
            "everything, for "
            "up to half an hour, or fails"
        )
    for below, last in LAST_CUDA:
        if capability < below and cuda[0] > last:
            return f"which has dropped this GPU (the last was {last})"
    return ""


def _restart(facts: Facts) -> Finding:
    title = "restarts of the engine"
    if not isinstance(facts.engine, EngineInfo):
        return Finding("restart", title, "not reached", "Not looked at: the engine comes first.")
    if facts.engine.live_restore:
        return Finding("restart", title, "ok", "Kernels live on while the engine restarts (live-restore).")
    if facts.engine.names_localhost:  # podman
        return Finding("restart", title, "ok", "This engine has no daemon whose restart would end kernels.")
    return Finding(
        "restart",
        title,
        "warning",
        "When the engine restarts (an upgrade does that), all kernels end.",
        'put "live-restore": true into /etc/docker/daemon.json, then: sudo systemctl reload docker.',
    )
