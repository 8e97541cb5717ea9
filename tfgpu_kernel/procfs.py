"""What Linux tells of processes and of containers' memory: the only door to /proc and /sys/fs/cgroup.

These reads take microseconds each and ask no engine, so a sample can make dozens of them. They block: call
them in a thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .attribution import TICK_SECONDS, Process, containers_in

_PROC: Final = Path("/proc")
_UNLIMITED: Final = 2**60
"""cgroup v1 tells no limit as the largest number that fits a page counter; no machine has so much."""


@dataclass(frozen=True)
class Memory:
    """A container's main memory. ``limit_bytes`` is None where it has no limit."""

    used_bytes: int
    limit_bytes: int | None


def since_boot() -> float:
    """Return the time in seconds from the machine's boot, the clock of processes' starts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Processes:
    """Looks processes up, and remembers those that it saw, since a process changes its container never."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = str(proc)
        self._known: dict[int, Process] = {}

    def look_up(self, pids: Iterable[int]) -> dict[int, Process]:
        """Return those of the processes that live, and forget all others."""
        found = {pid: process for pid in pids if (process := self._look(pid)) is not None}
        self._known = found
        return found

    def _look(self, pid: int) -> Process | None:
        known = self._known.get(pid)
        try:
            if known is not None and known.started == self._started(pid):
                return known
            # The start is read after the cgroup: should the id be given anew in between, the start is the
            # younger process's, and shows that this is not the one that was meant.
            containers = containers_in(_read(f"{self._proc}/{pid}/cgroup"))
            return Process(containers, self._started(pid))
        except (OSError, ValueError, IndexError):
            return None

    def _started(self, pid: int) -> float:
        # The second field is the program's name in brackets, which may itself hold blanks and brackets.
        fields = _read(f"{self._proc}/{pid}/stat").rpartition(")")[2].split(None, 20)
        return int(fields[19]) * TICK_SECONDS


def memory_folder(cgroup: str, mountinfo: str) -> Path | None:
    """Return the folder with a container's memory figures, from texts of /proc; None where it isn't visible.

    :param cgroup: ``/proc/PID/cgroup`` of a process in the container.
    :param mountinfo: ``/proc/self/mountinfo`` of who wants to read the figures.
    """
    lines = [line.split(":", 2) for line in cgroup.splitlines()]
    first = next((path for _, names, path in lines if "memory" in names.split(",")), None)
    second = next((path for number, names, path in lines if number == "0" and not names), None)
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        _, _, _, root, point, *_ = mount.split()
        kind, _, options = source.split()[:3]
        path = None
        if kind == "cgroup" and first is not None and "memory" in options.split(","):
            path = first
        elif kind == "cgroup2" and first is None:
            path = second
        if path is not None and not path.startswith("/.."):
            # Inside a container the mount shows a part of the tree only.
            inside = path.removeprefix(root) if root != "/" else path
            return Path(point) / inside.lstrip("/")
    return None


def container_memory_folder(pid: int, container: str) -> Path | None:
    """Return where a container's memory figures are.

    :raises LookupError: when the process with that id, as we see it, is not in that container: then we don't see
        the engine's process ids, because we run in a container or the engine elsewhere.
    """
    try:
        cgroup = _read(f"/proc/{pid}/cgroup")
    except OSError as error:
        raise LookupError(f"no process {pid}") from error
    if container not in containers_in(cgroup):
        raise LookupError(f"process {pid} is not in container {container[:12]}")
    return memory_folder(cgroup, _read("/proc/self/mountinfo"))


def memory(folder: Path) -> Memory | None:
    """Read a container's memory; None where the container is gone.

    What the kernel can take back at once (file pages not used lately) is not counted, as ``docker stats`` does.
    """
    second = os.path.exists(folder / "memory.current")
    names = ("memory.current", "memory.max", "inactive_file") if second else (
        "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"
    )  # fmt: skip
    try:
        used = int(_read(folder / names[0]))
        limit = _read(folder / names[1]).strip()
        stat = _read(folder / "memory.stat")
    except (OSError, ValueError):
        return None
    idle = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith(names[2] + " ")), 0)
    bound = None if limit == "max" or int(limit) >= _UNLIMITED else int(limit)
    return Memory(max(0, used - idle), bound)


def _read(path: str | Path) -> str:
    # open() with a small buffer and no text layer costs a third of Path.read_text.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")
