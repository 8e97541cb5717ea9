"""Images that are known to work, under short names, with what is inside and which GPUs they suit.

The sizes are what an image takes unpacked, rounded up; they are for warning of a full disk, not for accounting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..config import DEFAULT_IMAGE

Capability = tuple[int, int]
"""A GPU's compute capability, such as (8, 6)."""

BUILT: Final = "tfgpu/"
"""What the names of images begin with that are built here. No registry is ever asked for them: there, the name
would be a stranger's."""
AMD64: Final = ("x86_64", "amd64")


@dataclass(frozen=True)
class Preset:
    """One image that is known to work."""

    name: str
    reference: str
    inside: str
    suits: str
    size_bytes: int
    gpu: bool = True
    least: Capability = (0, 0)
    """The oldest compute capability that its TensorFlow has code for."""
    below: Capability = (99, 0)
    """The first compute capability that is too new for it."""
    cuda: tuple[int, int] = (0, 0)
    """The CUDA version that the driver must serve at least."""
    everywhere: bool = False
    """Whether there is one for other processors than amd64: for those PyPI's TensorFlow is made without CUDA."""

    @property
    def built(self) -> bool:
        """Whether it is built on the spot instead of pulled."""
        return self.reference.startswith(BUILT)

    def runs(self, capability: Capability) -> bool:
        """Whether its TensorFlow has code for such a GPU."""
        return self.least <= capability < self.below


PRESETS: Final = (
    Preset(
        "tf2.1-gpu",
        DEFAULT_IMAGE,
        "TensorFlow 2.1, Python 3.6, CUDA 10.1, cuDNN 7.6; frozen since 2020",
        "GPUs up to Turing (compute capability 3.5 to 7.5)",
        6_000_000_000,
        least=(3, 5),
        below=(8, 0),
        cuda=(10, 1),
    ),
    Preset(
        "tf2.14-gpu",
        "tensorflow/tensorflow:2.14.0-gpu",
        "TensorFlow 2.14, Python 3.11, CUDA 11.8, cuDNN 8.6",
        "GPUs from Maxwell to Hopper (5.0 to 9.0), drivers from CUDA 11.8 on",
        7_000_000_000,
        least=(5, 0),
        below=(10, 0),
        cuda=(11, 8),
    ),
    Preset(
        "tf2.17-gpu",
        "tensorflow/tensorflow:2.17.0-gpu",
        "TensorFlow 2.17, Python 3.11, CUDA 12.3, cuDNN 8.9",
        "GPUs from Pascal to Hopper (6.0 to 9.0), drivers from CUDA 12.3 on",
        7_000_000_000,
        least=(6, 0),
        below=(10, 0),
        cuda=(12, 3),
    ),
    Preset(
        "tf2.21-gpu",
        f"{BUILT}tensorflow:2.21-gpu",
        "TensorFlow 2.21, this machine's Python, CUDA 12.9, cuDNN 9; built here (image build --gpu)",
        "GPUs from Pascal on (6.0), Blackwell included, drivers from CUDA 12.5 on",
        8_000_000_000,
        least=(6, 0),
        cuda=(12, 5),
    ),
    Preset(
        "tf-cpu",
        "tensorflow/tensorflow:latest",
        "the newest TensorFlow of the official images, Python 3.11 or newer",
        "no GPU",
        2_500_000_000,
        gpu=False,
    ),
    Preset(
        "tf2.21-cpu",
        f"{BUILT}tensorflow:2.21-cpu",
        "TensorFlow 2.21, this machine's Python; built here (image build --cpu)",
        "no GPU; also processors other than amd64",
        2_500_000_000,
        gpu=False,
        everywhere=True,
    ),
)


def named(text: str) -> Preset | None:
    """Return the preset of a short name or of an image's reference."""
    return next((preset for preset in PRESETS if text in (preset.name, preset.reference)), None)


def reference(text: str) -> str:
    """Return the image that a setting names: a preset's, or the text itself."""
    preset = named(text)
    return preset.reference if preset else text


def suits(text: str) -> Callable[[Capability | None], bool]:
    """Return what tells whether an image has code for a GPU; of one that is no preset, nobody knows that it hasn't."""
    preset = named(text)
    return lambda capability: preset is None or capability is None or preset.runs(capability)
