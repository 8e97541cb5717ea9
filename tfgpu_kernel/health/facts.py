"""What is looked up before anything is judged: the machine, its driver, NVIDIA's toolkit, the engine, the image."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ..engine.base import Engine, EngineInfo, ImageRecord
from ..errors import ImageUnusable, TfgpuError
from ..gpu import nvml
from ..image import choice, debian, presets, unbuilt
from ..image.hardware import Hardware

_NVIDIA_VENDOR: Final = "0x10de"
_TOOLS: Final = ("nvidia-ctk", "nvidia-container-cli", "nvidia-container-runtime")

Family = Literal["debian", "ubuntu", "fedora", "rhel", "suse", "arch", "other"]


@dataclass(frozen=True)
class Machine:
    """The host.

    :param family: which package manager and which names of packages its remedies have.
    :param nvidia_on_bus: whether the PCI bus has a display controller of NVIDIA's; None where there is no bus to see.
    :param module: version of NVIDIA's loaded kernel module, empty where it doesn't tell one, None where none is loaded.
    """

    system: str
    family: Family
    kernel: str
    wsl: bool = False
    nvidia_on_bus: bool | None = None
    module: str | None = None


@dataclass(frozen=True)
class Inside:
    """What a container with a GPU saw of it; None where it didn't get so far.

    :param smi: what ``nvidia-smi -L`` printed, with its exit code.
    :param cuinit: what ``cuInit`` of libcuda returned; -1 where there is no libcuda.
    :param libcuda: path of the libcuda that was loaded.
    :param built_with: the CUDA that TensorFlow was built with; empty for a CPU build.
    :param gpu_gflops: speed of a matrix product on the GPU, in 10^9 operations a second; ``cpu_gflops`` beside it.
    """

    smi: str = ""
    smi_code: int | None = None
    cuinit: int | None = None
    libcuda: str = ""
    tensorflow: str | None = None
    built_with: str = ""
    gpus: tuple[str, ...] | None = None
    right: bool | None = None
    gpu_gflops: float | None = None
    cpu_gflops: float | None = None
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Facts:
    """All that was looked up; what failed is kept as the error that says why."""

    machine: Machine
    sample: nvml.Sample | nvml.NvmlError
    toolkit: str | None
    """Version of NVIDIA's container toolkit; None where it isn't installed, empty where it doesn't tell."""
    engine: EngineInfo | TfgpuError
    address: str
    free_bytes: int | None
    """On the disk that holds the engine's images, where this user can see it."""
    reference: str
    """The image that kernels run, as the engine has it: a preset, or auto, is resolved for this machine."""
    image: ImageRecord | TfgpuError | None = None
    """None where it isn't here, or wasn't looked for; an error where the engine can't say."""
    getting: str = ""
    """What gets the image where it isn't here."""
    hook: bool = False
    """Whether NVIDIA's hook for device requests is on the PATH."""
    inside: Inside | TfgpuError | None = None
    """None where no container was started."""


async def gather(
    engine: Engine | TfgpuError, setting: str, look: Callable[[str], None] = lambda _: None
) -> Facts:
    """Look everything up, save what takes a container. Changes nothing; never raises for what is missing.

    :param setting: the image as it is set: a reference, a preset or auto.
    :param look: hears what is looked at next, in words.
    """
    look("the driver and its GPUs")
    sample: nvml.Sample | nvml.NvmlError
    try:
        sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
    except nvml.NvmlError as error:
        sample = error
    look("NVIDIA's container toolkit")
    machine, toolkit = await asyncio.gather(asyncio.to_thread(look_at_machine), asyncio.to_thread(toolkit_version))
    info: EngineInfo | TfgpuError
    address = ""
    if isinstance(engine, TfgpuError):
        info = engine
    else:
        address = engine.address
        look("the Docker engine, and the image")
        try:
            info = await engine.info()
        except TfgpuError as error:
            info = error
    reference = setting
    image: ImageRecord | TfgpuError | None = None
    try:
        reference = choice.choose(setting, _hardware(sample, info)).reference
    except ImageUnusable as error:  # for auto, on a machine with a GPU that no image known here can use
        image = error
    if image is None and not isinstance(engine, TfgpuError) and not isinstance(info, TfgpuError):
        try:
            image = await engine.image(reference)
        except TfgpuError as error:  # a name that is none, and no fault of the engine's
            image = error
    free = None if isinstance(info, TfgpuError) else await asyncio.to_thread(free_space, info.root_dir)
    hook = any(shutil.which(name) for name in ("nvidia-container-runtime-hook", "nvidia-container-toolkit"))
    getting = await asyncio.to_thread(_getting, reference)
    return Facts(machine, sample, toolkit, info, address, free, reference, image, getting, hook)


def _hardware(sample: nvml.Sample | nvml.NvmlError, info: EngineInfo | TfgpuError) -> Hardware:
    """Return what the choice of an image goes by, for a kernel that may get any of the GPUs."""
    architecture = platform.machine() if isinstance(info, TfgpuError) else info.architecture
    return Hardware.of(None if isinstance(sample, nvml.NvmlError) else sample, architecture)


def _getting(reference: str) -> str:
    preset = presets.named(reference)
    if preset is not None and preset.built:
        return unbuilt.remedy(preset, debian.host_release())
    return f"docker pull {reference} pulls it now."


def look_at_machine() -> Machine:
    """Return what the host is."""
    release = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        release = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
        break
    return Machine(
        release.get("PRETTY_NAME", platform.system()),
        family(release.get("ID", ""), release.get("ID_LIKE", "")),
        platform.release(),
        "microsoft" in platform.release().lower(),
        _on_bus(),
        _module(),
    )


def family(name: str, like: str) -> Family:
    """Return whose remedies a distribution takes, by os-release's ID and ID_LIKE."""
    names = [name, *like.split()]
    for known, words in (
        ("ubuntu", {"ubuntu", "linuxmint", "pop"}),
        ("debian", {"debian"}),
        ("fedora", {"fedora"} if name == "fedora" else set()),
        ("rhel", {"rhel", "centos", "rocky", "almalinux", "ol", "fedora"}),
        ("suse", {"suse", "opensuse", "sles", "opensuse-leap", "opensuse-tumbleweed"}),
        ("arch", {"arch", "manjaro"}),
    ):
        if words & set(names):
            return known  # type: ignore[return-value]
    return "other"


def toolkit_version() -> str | None:
    """Return the version of NVIDIA's container toolkit; None where it isn't installed."""
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            continue
        try:
            done = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = re.search(r"version[: ]+(\d+\.\d+\.\d+)", done.stdout)
        return found[1] if found else ""
    return None


def free_space(folder: str) -> int | None:
    """Return the free bytes of the disk that holds a folder, or None where that can't be seen from here."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _on_bus() -> bool | None:
    devices = Path("/sys/bus/pci/devices")
    if not devices.is_dir():
        return None
    for device in devices.iterdir():
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith("0x03"):
            return True
    return False


def _module() -> str | None:
    if not Path("/sys/module/nvidia").is_dir():
        return None
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return ""
