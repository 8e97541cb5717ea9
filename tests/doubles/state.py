"""What the NVIDIA doubles are to show: frozen records, written as the text file that all of them read.

The file is replaced atomically, and the doubles read it again whenever it was replaced, so a test changes
the machine under a running process (a GPU falls off the bus, a driver goes away) by writing another state.
The text has one fact a line: ``WORD [POSITION…] [key=value…] [name=TEXT TO THE END OF THE LINE]``; a key that
is missing means that the driver does not tell.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

GIB: Final = 2**30
MIB: Final = 2**20

NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
DRIVER_NOT_LOADED: Final = 9
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
VERSION_MISMATCH: Final = 18
UNKNOWN: Final = 999
"""nvmlReturn_t values of nvml.h that tests raise."""

EVERY: Final = "*"
"""Stands for every function where a function is named."""


@dataclass(frozen=True)
class Process:
    """A process that holds memory of a GPU. ``used_bytes`` None: the driver does not tell (WSL2)."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class Mig:
    """One MIG device: a slice of a GPU that is a device of its own."""

    uuid: str
    profile: str = "1g.5gb"
    instance: int = 1
    total_bytes: int = 4864 * MIB
    used_bytes: int = 13 * MIB
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Gpu:
    """One GPU. ``used_bytes`` is without the driver's reserve, as NVML's second memory call counts.

    ``mig_mode`` None: the model knows no MIG; ``persistence`` None: the driver does not tell. ``compute_mode`` is a
    number of nvml.h's: 2 nobody may compute, 3 one process at a time. ``errors`` maps an NVML function, or
    :data:`EVERY`, to the code that it returns for this GPU alone.
    """

    uuid: str
    name: str = "NVIDIA A100-SXM4-40GB"
    compute_capability: str = "8.0"
    total_bytes: int = 40 * GIB
    used_bytes: int = 0
    reserved_bytes: int = 600 * MIB
    utilisation_percent: int | None = 0
    mig_mode: bool | None = None
    persistence: bool | None = None
    compute_mode: int | None = 0
    mig: tuple[Mig, ...] = ()
    processes: tuple[Process, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The whole machine, as the driver, the CUDA library and NVIDIA's container toolkit show it.

    :param driver: the driver's version.
    :param cuda: the newest CUDA that the driver serves, in NVML's form (13000 is 13.0).
    :param errors: NVML function, or :data:`EVERY`, to the code it returns.
    :param delays: NVML function to the milliseconds it hangs before it answers.
    :param cuinit: what ``cuInit`` returns (34 is the stub library, 100 no device, 999 unknown).
    :param library: whether libnvidia-ml.so.1 is there for the container toolkit to find.
    :param toolkit: version of NVIDIA's container toolkit.
    :param mode: how that toolkit puts GPUs into a container: the old hook, or CDI made on the spot.
    :param refusal: text with which every container that asks for a GPU is refused, or empty.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = "580.95.05"
    cuda: int = 13000
    errors: Mapping[str, int] = field(default_factory=dict)
    delays: Mapping[str, int] = field(default_factory=dict)
    cuinit: int = 0
    library: bool = True
    toolkit: str = "1.18.1"
    mode: Literal["legacy", "cdi"] = "legacy"
    refusal: str = ""

    def text(self) -> str:
        """Return the file's contents."""
        lines = [
            f"driver {self.driver}",
            f"cuda {self.cuda}",
            f"cuinit {self.cuinit}",
            f"library {int(self.library)}",
            f"toolkit {self.toolkit}",
            f"mode {self.mode}",
        ]
        if self.refusal:
            lines.append("refusal " + self.refusal.replace("\n", "\\n"))
        lines += [f"error {function} {code}" for function, code in self.errors.items()]
        lines += [f"delay {function} {milliseconds}" for function, milliseconds in self.delays.items()]
        for index, gpu in enumerate(self.gpus):
            lines += _gpu_lines(index, gpu)
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Put the state in place of what ``path`` holds; readers see the old one or the new one, whole."""
        scratch = path.with_name(path.name + ".new")
        scratch.write_text(self.text())
        scratch.chmod(0o644)
        os.replace(scratch, path)

    def with_gpu(self, index: int, **changes: object) -> State:
        """Return the same machine with one GPU changed; keywords as in :class:`Gpu`."""
        gpus = list(self.gpus)
        gpus[index] = replace(gpus[index], **changes)  # type: ignore[arg-type]
        return replace(self, gpus=tuple(gpus))


def machine(count: int, **changes: object) -> State:
    """Return a machine with so many equal GPUs; keywords as in :class:`State`."""
    return replace(State(tuple(Gpu(_uuid("GPU", i)) for i in range(count))), **changes)  # type: ignore[arg-type]


def mixed() -> State:
    """Return a machine with an old, a middling and a new model, as workstations grow over the years."""
    return State(
        (
            Gpu(_uuid("GPU", 0), "Tesla K80", "3.7", 12 * GIB, reserved_bytes=90 * MIB),
            Gpu(_uuid("GPU", 1), "Tesla T4", "7.5", 16 * GIB, reserved_bytes=449 * MIB),
            Gpu(_uuid("GPU", 2), "NVIDIA RTX 6000 Ada Generation", "8.9", 48 * GIB),
        )
    )


def partitioned(count: int = 2) -> State:
    """Return a machine whose first GPU is cut into MIG devices, and whose second is whole."""
    mig = tuple(Mig(_uuid("MIG", i), instance=7 + i) for i in range(count))
    return (
        machine(2).with_gpu(0, mig_mode=True, mig=mig, utilisation_percent=None).with_gpu(1, mig_mode=False)
    )


def _gpu_lines(index: int, gpu: Gpu) -> list[str]:
    fields = [
        f"gpu {index} uuid={gpu.uuid} minor={index} pci=00000000:{index + 1:02X}:00.0",
        f"cc={gpu.compute_capability} total={gpu.total_bytes} used={gpu.used_bytes}",
        f"reserved={gpu.reserved_bytes}",
    ]
    if gpu.utilisation_percent is not None:
        fields.append(f"util={gpu.utilisation_percent}")
    if gpu.mig_mode is not None:
        fields.append(f"mig={int(gpu.mig_mode)}")
    if gpu.compute_mode is not None:
        fields.append(f"compute={gpu.compute_mode}")
    if gpu.persistence is not None:
        fields.append(f"persistence={int(gpu.persistence)}")
    lines = [" ".join([*fields, f"name={gpu.name}"])]
    lines += _process_lines(f"{index} -", gpu.processes)
    for slot, mig in enumerate(gpu.mig):
        # The driver numbers its capability files on its own; the double counts them through.
        capability = 100 + 10 * index + slot
        lines.append(
            f"mig {index} {slot} uuid={mig.uuid} instance={mig.instance} capability={capability} "
            f"total={mig.total_bytes} used={mig.used_bytes} name={mig.profile}"
        )
        lines += _process_lines(f"{index} {slot}", mig.processes)
    return lines + [f"error {function} {code} {index}" for function, code in gpu.errors.items()]


def _process_lines(where: str, processes: tuple[Process, ...]) -> list[str]:
    return [
        f"process {where} pid={process.pid}"
        + ("" if process.used_bytes is None else f" used={process.used_bytes}")
        for process in processes
    ]


def _uuid(kind: str, index: int) -> str:
    """Return the same, plausible UUID in every run of this checkout.

    Leases hold for the whole machine, so tests of another checkout must not speak of the same GPU.
    """
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_OID, f'{kind} {index} {Path(__file__).resolve()}')}"
