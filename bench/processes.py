"""What processes cost, as /proc has it (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, its threads' included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def parents() -> dict[int, int]:
    """Return the parent of each process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue  # it has ended
            found[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    return found


def family(first: int, parents: Mapping[int, int]) -> list[int]:
    """Return a process and all that descend from it."""
    members = [first]
    for member in members:
        members.extend(pid for pid, parent in parents.items() if parent == member)
    return members


def weight_bytes(pid: int) -> int:
    """Return the process's memory, what it shares with others in proportion; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
