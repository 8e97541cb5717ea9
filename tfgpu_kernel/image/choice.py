"""Which image a kernel gets: the one that its user named, or for ``auto`` the one that suits the machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..config import AUTO
from ..errors import ImageUnusable
from .hardware import Hardware
from .presets import PRESETS, Capability, Preset, reference

CUDA_ELSEWHERE: Final = "a tag of NVIDIA's nvcr.io/nvidia/tensorflow"
"""What has TensorFlow with CUDA for other processors than amd64."""


@dataclass(frozen=True)
class Choice:
    """An image's reference, and in one sentence why this one; the sentence is empty where the user named it."""

    reference: str
    because: str = ""


def choose(image: str, hardware: Hardware) -> Choice:
    """Return the image for a setting; one that is named is never replaced.

    :raises ImageUnusable: for ``auto``, where a GPU is to be used that no image known here can.
    """
    if image != AUTO:
        return Choice(reference(image))
    preset, reason = _auto(hardware)
    return Choice(preset.reference, f"{reason}. To choose yourself, set image ({preset.name} is this one).")


def suiting(hardware: Hardware) -> Preset:
    """Return the preset to take where another image won't do, which is the newest that the machine can run."""
    if not hardware.gpus or not hardware.amd64:
        return _first(hardware, gpu=False)
    able = [preset for preset in _of_architecture(hardware, gpu=True) if not unable(preset, hardware)]
    # What can be pulled is there sooner than what must be built.
    return max(able, key=lambda preset: (not preset.built, preset.cuda), default=_nearest(hardware))


def unable(preset: Preset, hardware: Hardware) -> str:
    """Return why a preset can't use the kernel's GPUs, or nothing where it can (or nobody knows)."""
    for name, capability in hardware.gpus:
        if capability is None or preset.runs(capability):
            continue
        age = "newer" if capability >= preset.below else "older"
        return f"{name} (compute capability {_dotted(capability)}) is {age} than {preset.reference} has code for"
    if hardware.cuda is not None and hardware.cuda < preset.cuda:
        return (
            f"the driver serves CUDA up to {_dotted(hardware.cuda)}, and {preset.reference} "
            f"needs {_dotted(preset.cuda)}"
        )
    return ""


def _auto(hardware: Hardware) -> tuple[Preset, str]:
    if not hardware.gpu_wanted:
        preset = _first(hardware, gpu=False)
        return preset, f"No GPU is asked for, so the image is {preset.reference}"
    if not hardware.amd64:
        if hardware.gpus:
            raise ImageUnusable(
                f"No image that is known here uses a GPU on {hardware.architecture}: the official ones are for amd64 "
                "only, and PyPI's TensorFlow for other processors is made without CUDA.",
                f"set image to one that is made for {hardware.architecture} with CUDA, such as {CUDA_ELSEWHERE}, or "
                "choose the kernel TensorFlow CPU (Docker).",
            )
        preset = _first(hardware, gpu=False)
        return preset, (
            f"The official images are for amd64 only, and this machine is {hardware.architecture}, so the image is "
            f"{preset.reference}"
        )
    default = _first(hardware, gpu=True)
    if not hardware.gpus:
        return default, f"The image is {default.reference}, as with a GPU"
    why = unable(default, hardware)
    if not why:
        return default, f"The image is {default.reference}, which {hardware.gpus[0][0]} and its driver can run"
    preset = suiting(hardware)
    still = unable(preset, hardware)
    return preset, f"{_upper(why)}, so the image is {preset.reference}" + (f", though {still}" if still else "")


def _first(hardware: Hardware, *, gpu: bool) -> Preset:
    return _of_architecture(hardware, gpu=gpu)[0]


def _of_architecture(hardware: Hardware, *, gpu: bool) -> Sequence[Preset]:
    return [preset for preset in PRESETS if preset.gpu == gpu and (hardware.amd64 or preset.everywhere)]


def _nearest(hardware: Hardware) -> Preset:
    """Return the preset with the oldest CUDA that has code for the GPUs: a driver is upgraded sooner than a GPU."""
    presets = _of_architecture(hardware, gpu=True)
    fitting = [p for p in presets if all(cap is None or p.runs(cap) for _, cap in hardware.gpus)]
    return min(fitting or presets, key=lambda preset: preset.cuda)


def _dotted(version: Capability) -> str:
    return ".".join(str(number) for number in version)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
