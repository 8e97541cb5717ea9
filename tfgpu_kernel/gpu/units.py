"""What can be lent: whole GPUs, and of those that are cut the MIG devices. Pure: from a sample, and who holds what.

A GPU in MIG mode is never lent whole by a count: CUDA sees none of it then but its devices. One on which nobody may
compute (compute mode Prohibited) is never lent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .nvml import ComputeMode, Processes, Sample

LITTLE_BYTES: Final = 2**30
"""What may be used, or a tenth of all where that is more, of a GPU on which nobody computes: the driver's reserve, and
a desktop. TensorFlow takes most of the memory as it starts, unless told otherwise."""


@dataclass(frozen=True)
class Unit:
    """One GPU or MIG device that a container can be given.

    :param place: ``0`` for a GPU, ``0:1`` for a MIG device, as NVIDIA's tools name them.
    :param computing: host pids that compute on it; None where the driver doesn't tell.
    """

    uuid: str
    name: str
    place: str
    compute_capability: tuple[int, int] | None
    free_bytes: int | None
    total_bytes: int | None
    utilisation: int | None
    computing: Collection[int] | None
    compute_mode: ComputeMode | None = None

    @property
    def is_mig(self) -> bool:
        """Whether it is a MIG device. CUDA uses one of them in a process, whatever else is there."""
        return ":" in self.place

    @property
    def unused(self) -> bool:
        """Whether nobody computes on it; where the driver names no processes, whether little of its memory is used."""
        if self.computing is not None:
            return not self.computing
        if self.free_bytes is None or self.total_bytes is None:
            return True
        return self.total_bytes - self.free_bytes <= max(LITTLE_BYTES, self.total_bytes // 10)


def units(sample: Sample) -> tuple[Unit, ...]:
    """Return what this machine can lend, in NVML's order."""
    found = []
    for gpu in sample.gpus:
        memory = gpu.memory
        if gpu.compute_mode == "prohibited":
            continue
        if not gpu.mig_mode:
            found.append(
                Unit(gpu.uuid, gpu.name, str(gpu.index), gpu.compute_capability, gpu.free_bytes,
                     memory.total_bytes if memory else None, gpu.utilisation, _computing(gpu.processes, gpu.drawing),
                     gpu.compute_mode)
            )  # fmt: skip
            continue
        for mig in gpu.mig_devices:
            found.append(
                Unit(mig.uuid, mig.name or gpu.name, f"{gpu.index}:{mig.slot}", gpu.compute_capability,
                     mig.memory.free_bytes if mig.memory else None, mig.memory.total_bytes if mig.memory else None,
                     None, _computing(mig.processes, ()), gpu.compute_mode)
            )  # fmt: skip
    return tuple(found)


def names(sample: Sample) -> Mapping[str, str]:
    """Return each name that a setting may give a unit, with the unit's UUID."""
    return {name: unit.uuid for unit in units(sample) for name in (unit.place, unit.uuid)}


def best(free: Sequence[Unit], users: Mapping[str, int]) -> list[Unit]:
    """Sort units by the memory that one more kernel would have, if all shared alike; the most first.

    So two kernels that start at the same moment, with no memory in use yet, get different GPUs.
    """

    def worth(unit: Unit) -> tuple[int, int]:
        others = users.get(unit.uuid, 0)
        return -((unit.free_bytes or 0) // (others + 1)), others

    return sorted(free, key=worth)


def _computing(processes: Processes | None, drawing: Collection[int]) -> Collection[int] | None:
    return None if processes is None else tuple(pid for pid in processes if pid not in drawing)
