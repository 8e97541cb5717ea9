"""What a locked notebook needs, what of it is here, and what is asked for: known before anything is fetched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import labels
from ..config import KernelConfig
from ..engine.base import Engine
from ..gpu import nvml
from . import consent, data
from .read import Found
from .record import GpuNeed, Lock
from .start import versions

State = Literal["here", "missing", "too small"]


@dataclass(frozen=True)
class Need:
    """One thing that the notebook needs: what, how it is here, and a word more."""

    what: str
    state: State
    more: str = ""


@dataclass(frozen=True)
class Needs:
    """All of it. ``asks`` is what a consent is for, in words; empty where none is needed."""

    image: str
    subject: str
    needs: tuple[Need, ...]
    asks: tuple[str, ...]
    ignored: tuple[str, ...]
    """Keys of the lock that mean nothing here, such as mounts or privileges."""
    locked: bool
    """Whether there are results to compare a rerun with."""
    kept: tuple[str, ...] = ()

    @property
    def consent(self) -> bool:
        """Whether a consent is needed first."""
        return bool(self.asks)


async def assess(found: Found, notebook: Path, engine: Engine, config: KernelConfig) -> Needs:
    """Look at the engine, the driver and the disk; no registry and no index is asked.

    :param config: the kernel's settings as they are here: they decide about network and mounts.
    """
    lock = found.lock
    image = await _image(lock, engine)
    needs = [image, await _gpu(lock)]
    if lock.packages.added:
        text = f"{len(lock.packages.added)} Python packages added to the image"
        kept = ", ".join(lock.packages.kept)
        state: State = "here" if await _completed(lock, engine) else "missing"
        needs.append(Need(text, state, f"kept: {kept}" if kept else ""))
    if lock.packages.system:
        state = "here" if await _completed(lock, engine) else "missing"
        needs.append(Need(f"packages of the distribution: {', '.join(lock.packages.system)}", state))
    for one in await asyncio.to_thread(data.states, lock.data, notebook):
        state = "here" if one.state == "here" else "missing"
        more = "another file of that name is here" if one.state == "changed" else ""
        needs.append(Need(f"data {one.file.name} ({_size(one.file.size_bytes)})", state, more))
    return Needs(
        image=lock.image.pinned,
        subject=lock.subject(),
        needs=tuple(needs),
        asks=_asks(lock, notebook, config) if consent.needed(lock) else (),
        ignored=found.ignored,
        locked=lock.cells is not None,
        kept=lock.packages.kept,
    )


def lines(needs: Needs) -> list[str]:
    """Return the banner as lines of text."""
    marks = {"here": "✓ here", "missing": "✗ missing", "too small": "✗ too small"}
    told = ["This notebook is locked. It needs:"]
    told += [
        f"  {marks[need.state]:<12} {need.what}{f' ({need.more})' if need.more else ''}" for need in needs.needs
    ]
    if needs.ignored:
        told.append(f"Ignored, since no notebook decides about such things: {', '.join(needs.ignored)}")
    if needs.asks:
        told += ["To start it, you would agree that:", *(f"  - {one}" for one in needs.asks)]
    return told


def _asks(lock: Lock, notebook: Path, config: KernelConfig) -> tuple[str, ...]:
    image = lock.image
    which = image.digest or f"the layers {', '.join(layer[7:19] for layer in image.layers)}"
    packages = ", ".join(f"{one.name} {one.version}" for one in lock.packages.added)
    return (
        f"the image {image.reference} runs here, exactly {which}"
        + (f", pulled if it is missing ({_size(image.size_bytes)} unpacked)" if image.size_bytes else ""),
        *([f"these Python packages are installed into it, by their hashes: {packages}"] if packages else ()),
        *([f"these packages of its distribution are installed into it: {', '.join(lock.packages.system)}"]
          if lock.packages.system else ()),
        "its code has no network" if config.network == "none"
        else f"its code reaches the network ({config.network})",
        f"it reads and writes the workspace that holds {notebook.name}",
        *(f"it {'reads' if one.read_only else 'reads and writes'} {one.source}, as this kernel's settings say"
          for one in config.mounts),
        "it uses the GPUs that this machine lends to kernels" if lock.gpu.need == "required"
        else "it may use the GPUs that this machine lends to kernels",
    )  # fmt: skip


async def _image(lock: Lock, engine: Engine) -> Need:
    image = lock.image
    text = f"image {image.reference}"
    size = _size(image.size_bytes)
    named = await engine.image(image.pinned)
    if named is not None and named.layers == image.layers:
        return Need(text, "here")
    if any(one.layers == image.layers for one in await engine.images({})):
        return Need(text, "here", "under another name")
    if named is not None:
        return Need(text, "missing", "another image is behind that name here")
    return Need(text, "missing", f"{size} unpacked, pulled at the first start" if size else "")


async def _completed(lock: Lock, engine: Engine) -> bool:
    made_here = {labels.IMAGE_PACKAGES: " ".join(versions(lock.packages.installed))}
    if lock.packages.system:
        made_here[labels.IMAGE_SYSTEM] = " ".join(lock.packages.system)
        if any(one.layers == lock.packages.layers for one in await engine.images({})):
            return True
    found = await engine.images(made_here)
    return any(one.layers[: len(lock.image.layers)] == lock.image.layers for one in found)


async def _gpu(lock: Lock) -> Need:
    sample: nvml.Sample | nvml.NvmlError
    try:
        sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
    except nvml.NvmlError as error:
        sample = error
    return gpu(lock.gpu, lock.software.cuda, sample)


def gpu(need: GpuNeed, cuda: str, sample: nvml.Sample | nvml.NvmlError) -> Need:
    """Hold what the notebook needs of a GPU against the GPUs and the driver that are here: pure.

    :param cuda: the version for which the recorded TensorFlow was built; empty where it is not known.
    """
    wants = ["a GPU" if need.need == "required" else "a GPU, or none"]
    if need.compute_capability:
        wants.append(f"compute capability {_dotted(need.compute_capability)}")
    if need.memory_bytes:
        wants.append(f"{_size(need.memory_bytes)} of memory")
    text = ", ".join(wants)
    absent: State = "missing" if need.need == "required" else "here"
    if isinstance(sample, nvml.NvmlError):
        return Need(text, absent, str(sample))
    if not sample.gpus:
        return Need(text, absent, "no GPU is here" if absent == "missing" else "it runs on the CPU")
    short = [_short(need, one) for one in sample.gpus]
    names = ", ".join(one.name + (f" has {', '.join(why)}" if why else "") for one, why in
                      zip(sample.gpus, short, strict=True))  # fmt: skip
    if all(short):
        return Need(text, "too small", names)
    major = cuda.partition(".")[0]
    if major.isdecimal() and sample.cuda and sample.cuda[0] < int(major):
        served = f"driver {sample.driver} serves CUDA {_dotted(sample.cuda)}, the notebook's TensorFlow takes {cuda}"
        return Need(text, "too small", served)
    return Need(text, "here", names)


def _short(need: GpuNeed, one: nvml.Gpu) -> list[str]:
    """Return what a GPU has less of than is needed; what the driver doesn't tell counts as enough."""
    found = []
    if need.compute_capability and one.compute_capability and one.compute_capability < need.compute_capability:
        found.append(f"compute capability {_dotted(one.compute_capability)}")
    if need.memory_bytes and one.memory and one.memory.total_bytes < need.memory_bytes:
        found.append(_size(one.memory.total_bytes))
    return found


def _dotted(version: tuple[int, int]) -> str:
    return "{}.{}".format(*version)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
