"""Whose a GPU's memory is: pure, from NVML's process ids, the processes' cgroups and the containers.

NVML tells host process ids. A process's cgroup tells which container it is in: engines end a container's cgroup
path in its id, bare (``/docker/ID``, as cgroup v1 and the cgroupfs driver have it), as a systemd unit
(``docker-ID.scope``), or with more below it where the container nests groups of its own.

A process id can end and be given anew between NVML's answer and the look at /proc. A process that
started after NVML was asked is therefore not the one that it named, and its memory counts as others'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .gpu.nvml import Gpu, MigDevice, Processes

TICK_SECONDS: Final = 0.01
"""The kernel rounds the start of a process down to this (USER_HZ, 100 on every platform that we run on)."""
_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Process:
    """A process as /proc has it.

    :param containers: the ids in its cgroup's path, outermost first; empty for one in no container.
    :param started: seconds from the machine's boot.
    """

    containers: tuple[str, ...]
    started: float


@dataclass(frozen=True)
class Share:
    """What one container holds of a device. ``used_bytes`` is None where the driver doesn't tell all of it."""

    container: str
    used_bytes: int | None
    processes: int


@dataclass(frozen=True)
class Usage:
    """Who holds a device's memory: our containers, largest first, and all other processes in one sum."""

    shares: tuple[Share, ...] = ()
    others_bytes: int | None = 0
    others: int = 0
    """How many other processes there are."""


def containers_in(cgroup: str) -> tuple[str, ...]:
    """Return the ids of the containers that a ``/proc/PID/cgroup`` names, outermost first."""
    return tuple(dict.fromkeys(_ID.findall(cgroup)))


def attribute(
    holders: Processes | None, processes: Mapping[int, Process], ours: Collection[str], asked: float
) -> Usage | None:
    """Tell who holds one device's memory; None where the driver doesn't name its processes.

    :param holders: what NVML told, by host process id.
    :param processes: what /proc told *after* NVML was asked; a process that ended meanwhile is missing.
    :param ours: ids of the containers that are told apart.
    :param asked: when NVML was asked, in seconds from boot.
    """
    if holders is None:
        return None
    found: dict[str, list[int | None]] = {}
    others: list[int | None] = []
    for pid, used_bytes in holders.items():
        container = _container(processes.get(pid), ours, asked)
        (others if container is None else found.setdefault(container, [])).append(used_bytes)
    shares = [Share(container, _sum(parts), len(parts)) for container, parts in found.items()]
    shares.sort(key=lambda share: (-(share.used_bytes or 0), share.container))
    return Usage(tuple(shares), _sum(others), len(others))


def attribute_all(
    gpus: Sequence[Gpu], processes: Mapping[int, Process], ours: Collection[str], asked: float
) -> dict[str, Usage | None]:
    """Tell who holds the memory of each GPU and MIG device, by UUID."""
    return {device.uuid: attribute(device.processes, processes, ours, asked) for device in _devices(gpus)}


def holders(gpus: Sequence[Gpu]) -> set[int]:
    """Return the host process ids that hold memory of any device."""
    return {pid for device in _devices(gpus) for pid in device.processes or ()}


def _devices(gpus: Sequence[Gpu]) -> Iterator[Gpu | MigDevice]:
    for gpu in gpus:
        yield gpu
        yield from gpu.mig_devices


def _container(process: Process | None, ours: Collection[str], asked: float) -> str | None:
    if process is None or process.started + TICK_SECONDS > asked:
        return None
    # A container of ours may itself run inside another one (a server in a container): the innermost is it.
    return next((name for name in reversed(process.containers) if name in ours), None)


def _sum(parts: Sequence[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
