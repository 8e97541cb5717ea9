"""What will go wrong with an image on this machine, said before anybody waits for it. Pure.

Sources: tensorflow/build#217 and #221 (cuDNN of the official tags), tensorflow#48069 and #43718 (Ampere and newer with
CUDA 10), the tags of tensorflow/tensorflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .choice import CUDA_ELSEWHERE, suiting, unable
from .facts import Facts
from .hardware import Hardware
from .presets import named

_OFFICIAL: Final = re.compile(r"(?:.*/)?tensorflow/tensorflow(?::(?P<tag>[\w.-]+))?(?:@.*)?")
_AMPERE: Final = (8, 0)
_CUDA_OF_AMPERE: Final = 11
_CUDNN_9_FROM: Final = (2, 18)
"""From this TensorFlow on cuDNN 9.3 is needed; the official tags still bring 8.9."""
GPU_BYTES: Final = 7_000_000_000
CPU_BYTES: Final = 2_500_000_000
"""What the official images take unpacked."""


@dataclass(frozen=True)
class Official:
    """What the tag of an official image says. The version is None where it is the newest."""

    gpu: bool
    version: tuple[int, int] | None

    @property
    def cuda(self) -> int:
        """The major version of its CUDA."""
        return 10 if self.version is not None and self.version < (2, 4) else 11


def official(reference: str) -> Official | None:
    """Read the reference of an official image, also at a mirror; None for any other."""
    found = _OFFICIAL.fullmatch(reference)
    if found is None:
        return None
    tag = found["tag"] or ("latest" if "@" not in reference else "")
    gpu = "-gpu" in tag
    if tag.startswith("latest") and "-py3" in tag:
        return Official(gpu, (2, 1))  # frozen in 2020
    numbers = re.match(r"(\d+)\.(\d+)", tag)
    if numbers:
        return Official(gpu, (int(numbers[1]), int(numbers[2])))
    return Official(gpu, None) if tag.startswith(("latest", "nightly")) else None


def foresee(reference: str, hardware: Hardware, facts: Facts | None = None, *, here: bool = False) -> tuple[str, ...]:
    """Return what the user should know before the wait, each with the preset to take instead.

    :param facts: what the image is, where that is known already; else its name has to do.
    :param here: whether the image is on the machine, so that it needs no room.
    """
    return tuple(_foresee(reference, hardware, facts, here))


def _foresee(reference: str, hardware: Hardware, facts: Facts | None, here: bool) -> Iterator[str]:
    preset, tag = named(reference), official(reference)
    instead = suiting(hardware)
    advice = f"Take {instead.reference} instead (image = {instead.name})."
    if not hardware.amd64 and tag is not None:
        if hardware.gpus:
            advice = f"Take one that is made for it with CUDA, such as {CUDA_ELSEWHERE}."
        yield (
            f"{reference} is made for amd64 only, and this machine is {hardware.architecture}: it would run slowly "
            f"in an emulator, or not at all. {advice}"
        )
        return
    if hardware.gpus:
        why = unable(preset, hardware) if preset and instead is not preset else ""
        too_new = [(name, cap) for name, cap in hardware.gpus if cap is not None and cap >= _AMPERE]
        if too_new and _cuda(tag, facts) < _CUDA_OF_AMPERE:
            name, capability = too_new[0]
            yield (
                f"{reference} was made before {name} (compute capability {capability[0]}.{capability[1]}): its first "
                f"use of the GPU compiles for half an hour, or fails. {advice}"
            )
        elif _lacks_cudnn(tag, facts):
            yield f"{reference} has cuDNN 8.9, but its TensorFlow needs 9.3 and so won't use the GPU. {advice}"
        elif why:
            yield f"{why[:1].upper()}{why[1:]}. {advice}"
    size = preset.size_bytes if preset else (GPU_BYTES if tag.gpu else CPU_BYTES) if tag else 0
    free = hardware.free_bytes
    if not here and free is not None and size > free:
        smaller = f", or take {instead.reference} (image = {instead.name})" if instead.size_bytes < free else ""
        yield (
            f"{reference} takes about {size / 1e9:.1f} GB, and the engine's disk has {free / 1e9:.1f} GB free. Free "
            f"some (jupyter tfgpu image prune){smaller}."
        )


def _cuda(tag: Official | None, facts: Facts | None) -> int:
    """Return the major version of the image's CUDA; a large number where it isn't known."""
    if facts is not None and facts.cuda.partition(".")[0].isdecimal():
        return int(facts.cuda.partition(".")[0])
    return tag.cuda if tag is not None and tag.gpu else 99


def _lacks_cudnn(tag: Official | None, facts: Facts | None) -> bool:
    if facts is not None:
        numbers = re.match(r"(\d+)\.(\d+)", facts.tensorflow)
        if numbers is None or not facts.cudnn:
            return False
        return (int(numbers[1]), int(numbers[2])) >= _CUDNN_9_FROM and facts.cudnn.startswith("8.")
    return tag is not None and tag.gpu and (tag.version is None or tag.version >= _CUDNN_9_FROM)
