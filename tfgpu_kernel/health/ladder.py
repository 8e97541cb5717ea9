"""From facts to findings: pure. The rungs stand on each other, so above a broken one none is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from packaging.version import InvalidVersion, Version

from .. import troubles
from ..engine.base import EngineInfo, ImageRecord
from ..errors import TfgpuError
from ..gpu import nvml
from ..gpu.request import CDI_KIND, RUNTIME
from . import beside, remedies
from .facts import Facts, Inside
from .findings import Finding

CVES: Final = (
    (Version("1.16.2"), "CVE-2024-0132"),
    (Version("1.17.4"), "CVE-2025-23359"),
    (Version("1.17.8"), "CVE-2025-23266"),
)
"""Versions of NVIDIA's toolkit that first lack a hole through which an image takes the host."""
BELOW_CONTAINERS: Final = ("driver", "nvml", "toolkit", "registered")
"""The rungs that must hold before a container with a GPU is worth a try."""
STUB: Final = 34
"""CUDA_ERROR_STUB_LIBRARY: what cuInit of the placeholder library returns."""

Rung = Callable[[Facts], Finding]


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return the ladder from the bottom up, then what stands beside it."""
    found: list[Finding] = []
    for rung in (_driver, _nvml, _toolkit, _registered, _device, _libcuda, _tensorflow, _product):
        finding = rung(facts)
        if any(below.state in {"broken", "not reached"} for below in found):
            below = next(below for below in found if below.state in {"broken", "not reached"})
            why = f"Not looked at: {below.title} comes first."
            finding = replace(finding, state="not reached", message=why, remedy="", details="")
        found.append(finding)
    return (*found, *beside.judge(facts))


def _driver(facts: Facts) -> Finding:
    title = "kernel driver"
    machine, sample = facts.machine, facts.sample
    if isinstance(sample, nvml.Sample):
        return Finding("driver", title, "ok", f"NVIDIA's driver {sample.driver} is loaded.")
    if sample.code == nvml.DRIVER_NOT_LOADED or (sample.code == nvml.LIBRARY_NOT_FOUND and machine.module is None):
        if sample.code == nvml.DRIVER_NOT_LOADED and machine.module is None:
            message = "NVIDIA's driver is installed, but not loaded into the running kernel "
            return Finding("driver", title, "broken", f"{message}({machine.kernel}).", remedies.load_driver(machine))
        if machine.nvidia_on_bus is False and not machine.wsl:
            return Finding(
                "driver",
                title,
                "broken",
                "This machine has no NVIDIA GPU on its bus, and no driver for one.",
                f"if there should be one, see lspci; once it is there: {remedies.install_driver(machine)} Without a "
                "GPU, choose the kernel TensorFlow CPU (Docker).",
            )
        return Finding(
            "driver", title, "broken", "There is no NVIDIA driver on this machine.", remedies.install_driver(machine)
        )
    version = f" {machine.module}" if machine.module else ""
    return Finding("driver", title, "ok", f"NVIDIA's driver{version} is loaded.")


def _nvml(facts: Facts) -> Finding:
    title = "NVML"
    sample = facts.sample
    if isinstance(sample, nvml.Sample):
        lost = "; ".join(f"GPU {gpu.index}: {gpu.cause}" for gpu in sample.failed)
        if not sample.gpus:
            return Finding(
                "nvml",
                title,
                "broken",
                f"The driver runs, but sees no GPU{f' that works ({lost})' * bool(lost)}.",
                "check that the GPU is plugged in and not lent to a virtual machine (lspci, nvidia-smi -L); "
                "one that fell off the bus comes back with a reboot.",
            )
        names = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in sample.gpus)
        served = f", CUDA up to {sample.cuda[0]}.{sample.cuda[1]}" if sample.cuda else ""
        if lost:
            return Finding(
                "nvml",
                title,
                "warning",
                f"{len(sample.gpus)} GPUs work ({names}); {lost}.",
                "reboot when you can; look for Xid in: sudo dmesg.",
            )
        listed = f"The driver lists {_count(len(sample.gpus), 'GPU')} ({names}){served}"
        asleep = [str(gpu.index) for gpu in sample.gpus if gpu.persistent is False and not gpu.processes]
        if asleep:
            return Finding(
                "nvml",
                title,
                "warning",
                f"{listed}. Without persistence mode GPU {', '.join(asleep)} is shut down whenever nobody uses it, and "
                "whoever asks for it waits until it has started up again.",
                "sudo systemctl enable --now nvidia-persistenced, or until the next reboot: sudo nvidia-smi -pm 1.",
            )
        return Finding("nvml", title, "ok", f"{listed}.")
    trouble = troubles.find(f"Failed to initialize NVML: {sample}")
    remedy = trouble.remedy if trouble else "see what nvidia-smi says on the host; a reboot mends most of this."
    if sample.code == nvml.VERSION_MISMATCH:
        remedy = "reboot: the new driver is installed, and the old one still runs."
    if sample.code == nvml.NO_PERMISSION:
        remedy = "sudo chmod 666 /dev/nvidia*; for good, ask for the default modes (NVreg_DeviceFileMode=0666)."
    if sample.code == nvml.LIBRARY_NOT_FOUND:
        remedy = remedies.install_driver(facts.machine)
    return Finding("nvml", title, "broken", f"NVIDIA's management library gives no answer: {sample}.", remedy)


def _toolkit(facts: Facts) -> Finding:
    title = "NVIDIA container toolkit"
    upgrade = remedies.install_toolkit(facts.machine)
    if facts.toolkit is None:
        if isinstance(facts.engine, EngineInfo) and _way(facts, facts.engine):
            return Finding(
                "toolkit",
                title,
                "warning",
                "The engine can lend GPUs, but no toolkit is on this "
                "PATH, so its "
                "version, and whether it has known holes, can't be told.",
                "run nvidia-ctk --version.",
            )
        return Finding(
            "toolkit",
            title,
            "broken",
            "NVIDIA's container toolkit, which lends GPUs to containers, is not installed.",
            upgrade,
        )
    try:
        version = Version(facts.toolkit)
    except InvalidVersion:
        return Finding("toolkit", title, "warning", "The toolkit is installed, and doesn't tell its version.", upgrade)
    holes = [cve for first, cve in CVES if version < first]
    if holes:
        return Finding(
            "toolkit",
            title,
            "warning",
            f"Version {version} has known holes ({', '.join(holes)}): an image made for it takes over the host.",
            f"upgrade, and run no unknown image until then: {upgrade}",
        )
    return Finding("toolkit", title, "ok", f"Version {version}.")


def _way(facts: Facts, engine: EngineInfo) -> str:
    """Return how the engine can lend GPUs, in words; empty where it can't."""
    if RUNTIME in engine.runtimes:
        return "the nvidia runtime"
    devices = [device for device in engine.cdi_devices if device.startswith(f"{CDI_KIND}=")]
    if devices:
        return f"CDI ({_count(len(devices), 'device name')})"
    return "device requests" if facts.hook else ""


def _registered(facts: Facts) -> Finding:
    title = "runtime or CDI"
    if not isinstance(facts.engine, EngineInfo):
        return Finding("registered", title, "not reached", "Not looked at: the engine comes first.")
    way = _way(facts, facts.engine)
    if way:
        return Finding("registered", title, "ok", f"This engine lends GPUs through {way}.")
    known = ", ".join(sorted(facts.engine.runtimes)) or "none"
    cdi = "reads CDI specifications, and finds no NVIDIA device" if facts.engine.cdi else "doesn't read CDI"
    return Finding(
        "registered",
        title,
        "broken",
        f"This engine doesn't know the nvidia runtime (it knows: {known}) and {cdi}.",
        remedies.register(facts.engine),
    )


def _inside(facts: Facts, name: str, title: str) -> Finding | Inside:
    if isinstance(facts.inside, Inside):
        return facts.inside
    if isinstance(facts.inside, TfgpuError):
        error = facts.inside
        return Finding(name, title, "broken", error.message, error.remedy, error.details)
    if not isinstance(facts.image, ImageRecord):
        return Finding(
            name,
            title,
            "not reached",
            f"No container was started: the image {facts.reference} is not here.",
            "see image, below; or name another: --image.",
        )
    return Finding(name, title, "not reached", "No container was started.", "jupyter tfgpu doctor --smoke.")


def _device(facts: Facts) -> Finding:
    title = "GPU in a container"
    inside = _inside(facts, "device", title)
    if isinstance(inside, Finding):
        return inside
    if inside.smi_code == 0:
        return Finding("device", title, "ok", f"nvidia-smi in a container lists {inside.smi.splitlines()[0]}.")
    trouble = troubles.find(inside.smi)
    if trouble:
        return Finding("device", title, "broken", trouble.cause, trouble.remedy, inside.smi)
    missing = inside.smi_code is None
    message = "The container started without nvidia-smi in it." if missing else "nvidia-smi in a container sees no GPU."
    return Finding(
        "device",
        title,
        "broken",
        message,
        f"compare: docker run --rm --runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all {facts.reference} nvidia-smi.",
        inside.smi,
    )


def _libcuda(facts: Facts) -> Finding:
    title = "libcuda in the container"
    inside = _inside(facts, "libcuda", title)
    if isinstance(inside, Finding):
        return inside
    if inside.cuinit == STUB or "stubs" in inside.libcuda:
        return Finding(
            "libcuda",
            title,
            "broken",
            f"The container loads the image's placeholder ({inside.libcuda}) instead of the driver's library.",
            "run ldconfig in the image as root, or remove its file /etc/ld.so.conf.d/z-cuda-stubs.conf.",
        )
    if inside.cuinit == 0:
        return Finding("libcuda", title, "ok", f"The driver's own library answers ({inside.libcuda}).")
    if inside.cuinit is None or inside.cuinit < 0:
        return Finding(
            "libcuda",
            title,
            "broken",
            "The container has no libcuda.so.1.",
            "ask for CUDA's part of the driver (env NVIDIA_DRIVER_CAPABILITIES=compute,utility); with "
            "CDI, make "
            "the specification anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml.",
        )
    return Finding(
        "libcuda",
        title,
        "broken",
        f"CUDA doesn't start in the container (cuInit returns {inside.cuinit}), though nvidia-smi works.",
        "load the module for unified memory (sudo modprobe nvidia-uvm); with CDI, "
        "make the "
        "specification anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml.",
    )


def _tensorflow(facts: Facts) -> Finding:
    title = "TensorFlow"
    inside = _inside(facts, "tensorflow", title)
    if isinstance(inside, Finding):
        return inside
    if inside.tensorflow is None:
        return Finding(
            "tensorflow",
            title,
            "broken",
            f"The image {facts.reference} has no TensorFlow that can be imported.",
            "name an image with TensorFlow: --image tensorflow/tensorflow:2.17.0-gpu.",
            inside.error or inside.log,
        )
    if inside.gpus:
        return Finding("tensorflow", title, "ok", f"TensorFlow {inside.tensorflow} sees {', '.join(inside.gpus)}.")
    if not inside.built_with:
        return Finding(
            "tensorflow",
            title,
            "broken",
            f"The image's TensorFlow {inside.tensorflow} is a CPU build.",
            "choose a GPU image, such as tensorflow/tensorflow:2.17.0-gpu.",
            inside.log,
        )
    trouble = troubles.find(inside.log)
    return Finding(
        "tensorflow",
        title,
        "broken",
        trouble.cause if trouble else f"TensorFlow {inside.tensorflow} sees no GPU.",
        trouble.remedy if trouble else "read its words below; env TF_CPP_MAX_VLOG_LEVEL=3 makes it say more.",
        inside.log,
    )


def _product(facts: Facts) -> Finding:
    title = "a matrix product"
    inside = _inside(facts, "product", title)
    if isinstance(inside, Finding):
        return inside
    if inside.right and inside.gpu_gflops and inside.cpu_gflops:
        times = inside.gpu_gflops / inside.cpu_gflops
        message = f"Right, at {inside.gpu_gflops:,.0f} GFLOP/s on the GPU, {inside.cpu_gflops:,.0f} on the CPU"
        if times < 1:
            return Finding(
                "product",
                title,
                "warning",
                f"{message}: the GPU is slower.",
                "see what else runs on it (nvidia-smi), and its power and temperature (nvidia-smi -q).",
            )
        return Finding("product", title, "ok", f"{message} ({times:.1f} times).")
    if inside.right is False:
        return Finding(
            "product",
            title,
            "broken",
            "The GPU gives a wrong answer.",
            "test its memory, and don't compute on it until then (look for Xid in: sudo dmesg).",
        )
    trouble = troubles.find(f"{inside.error}\n{inside.log}")
    return Finding(
        "product",
        title,
        "broken",
        trouble.cause if trouble else "The product failed on the GPU.",
        trouble.remedy if trouble else "read TensorFlow's words below.",
        inside.error or inside.log,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
