"""The JSON of ``GET /tfgpu/gpus``: frozen records, made from a moment's figures by pure functions.

Bytes are whole numbers, times are seconds since the epoch, and what is not known is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .. import procfs
from ..attribution import Share, Usage
from ..gpu import nvml
from ..gpu.history import History, Series
from .roster import HOST, Resident, Warm
from .sampler import Moment


@dataclass(frozen=True)
class DeviceMemory:
    """A device's memory. ``reserved_bytes`` null: the driver counts its reserve as used."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    reserved_bytes: int | None


@dataclass(frozen=True)
class HeldMemory:
    """What so many processes hold. ``used_bytes`` null: the driver doesn't tell of all of them."""

    used_bytes: int | None
    processes: int


@dataclass(frozen=True)
class KernelShare:
    """What one kernel holds of a device."""

    kernel_id: str
    used_bytes: int | None
    processes: int


@dataclass(frozen=True)
class Holders:
    """Who holds a device's memory: kernels, largest first; kernels that wait in the pool; all else."""

    kernels: tuple[KernelShare, ...]
    warm: HeldMemory
    others: HeldMemory


@dataclass(frozen=True)
class MigState:
    """One MIG device. ``holders`` null: the driver doesn't name processes, or we can't see them."""

    uuid: str
    name: str | None
    memory: DeviceMemory | None
    holders: Holders | None


@dataclass(frozen=True)
class GpuState:
    """One GPU. ``holders`` as in :class:`MigState`; under MIG the parts tell, not the whole."""

    index: int
    uuid: str
    name: str
    use_percent: int | None
    memory: DeviceMemory | None
    holders: Holders | None
    mig: tuple[MigState, ...]


@dataclass(frozen=True)
class LostGpu:
    """A GPU that the driver lists, but that can't be asked."""

    index: int
    cause: str


@dataclass(frozen=True)
class MainMemory:
    """A container's main memory. ``limit_bytes`` null: no limit."""

    used_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True)
class KernelState:
    """One kernel of this server; fields as in :class:`tfgpu_kernel.server.roster.Resident`.

    ``in_container`` false: a kernel on the machine itself. ``memory`` null: it can't be seen.
    """

    kernel_id: str
    kernel_name: str
    path: str
    kind: str
    state: str
    idle_seconds: float | None
    in_container: bool
    gpus: tuple[str, ...]
    memory: MainMemory | None


@dataclass(frozen=True)
class WarmState:
    """The kernels that wait in the pool, all together."""

    count: int
    memory_bytes: int | None


@dataclass(frozen=True)
class HistoryState:
    """The points since the time that was asked for; each series has one entry for each of ``times``."""

    times: tuple[float, ...]
    gpus: Mapping[str, Series]


@dataclass(frozen=True)
class NoGpu:
    """Why no GPU can be shown."""

    message: str
    remedy: str


@dataclass(frozen=True)
class GpuReport:
    """The whole answer."""

    time: float
    every_seconds: float
    driver: str | None
    cuda: str | None
    no_gpu: NoGpu | None
    gpus: tuple[GpuState, ...]
    lost: tuple[LostGpu, ...]
    sees_processes: bool
    kernels: tuple[KernelState, ...]
    warm: WarmState
    history: HistoryState


_REMEDY: Final = "run jupyter tfgpu doctor, which checks each step from the driver to TensorFlow."


def report(
    moment: Moment,
    residents: Sequence[Resident],
    warm: Sequence[Warm],
    history: History,
    since: float,
    every: float,
) -> GpuReport:
    """Return the answer to a page whose newest point of the history is of the time ``since``."""
    sample = moment.sample
    owners = {resident.container: resident.kernel_id for resident in residents if resident.container != HOST}
    # One that is just taken is a kernel already, whatever the pool still says.
    waiting = {entry.container for entry in warm} - owners.keys()

    def told(uuid: str) -> Holders | None:
        usage = moment.usages.get(uuid)
        return _holders(usage, owners, waiting) if usage and moment.sees_processes else None

    times, series = history.since(since)
    return GpuReport(
        time=moment.time,
        every_seconds=every,
        driver=sample.driver if sample else None,
        cuda=".".join(map(str, sample.cuda)) if sample and sample.cuda else None,
        no_gpu=_no_gpu(moment),
        gpus=tuple(
            GpuState(
                gpu.index,
                gpu.uuid,
                gpu.name,
                gpu.utilisation,
                _memory(gpu.memory),
                told(gpu.uuid),
                tuple(MigState(mig.uuid, mig.name, _memory(mig.memory), told(mig.uuid)) for mig in gpu.mig_devices),
            )
            for gpu in (sample.gpus if sample else ())
        ),
        lost=tuple(LostGpu(gpu.index, gpu.cause) for gpu in (sample.failed if sample else ())),
        sees_processes=moment.sees_processes,
        kernels=tuple(_kernel(resident, moment.memory) for resident in residents),
        warm=WarmState(len(waiting), _warm_memory(waiting, moment.memory)),
        history=HistoryState(times, series),
    )


def _no_gpu(moment: Moment) -> NoGpu | None:
    if moment.cause:
        return NoGpu(moment.cause[0].upper() + moment.cause[1:] + ".", _REMEDY)
    if moment.sample and not moment.sample.gpus and not moment.sample.failed:
        return NoGpu("The NVIDIA driver runs, but sees no GPU.", _REMEDY)
    return None


def _memory(memory: nvml.Memory | None) -> DeviceMemory | None:
    if memory is None:
        return None
    return DeviceMemory(memory.total_bytes, memory.used_bytes, memory.free_bytes, memory.reserved_bytes)


def _holders(usage: Usage, owners: Mapping[str, str], waiting: set[str]) -> Holders:
    """Sort containers into kernels and waiting ones; one that ended since the sample counts as others'."""
    kernels = [
        KernelShare(owners[share.container], share.used_bytes, share.processes)
        for share in usage.shares
        if share.container in owners
    ]
    warm = [share for share in usage.shares if share.container in waiting]
    rest = [share for share in usage.shares if share.container not in owners.keys() | waiting]
    others = [Share("", usage.others_bytes, usage.others), *rest]
    return Holders(tuple(kernels), _held(warm), _held(others))


def _held(shares: Sequence[Share]) -> HeldMemory:
    told = [share.used_bytes for share in shares if share.used_bytes is not None]
    return HeldMemory(sum(told) if len(told) == len(shares) else None, sum(s.processes for s in shares))


def _kernel(resident: Resident, memory: Mapping[str, procfs.Memory]) -> KernelState:
    figures = memory.get(resident.container)
    return KernelState(
        kernel_id=resident.kernel_id,
        kernel_name=resident.kernel_name,
        path=resident.path,
        kind=resident.kind,
        state=resident.state,
        idle_seconds=None if resident.idle_seconds is None else round(resident.idle_seconds, 1),
        in_container=resident.container != HOST,
        gpus=resident.gpus,
        memory=MainMemory(figures.used_bytes, figures.limit_bytes) if figures else None,
    )


def _warm_memory(waiting: set[str], memory: Mapping[str, procfs.Memory]) -> int | None:
    figures = [memory[container].used_bytes for container in waiting if container in memory]
    return sum(figures) if len(figures) == len(waiting) else None
