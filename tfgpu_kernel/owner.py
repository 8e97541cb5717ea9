"""Which process a container belongs to, and whether that process still lives.

A process is named by boot, pid namespace, pid and start time, so that a pid used again, a reboot, or a
server in another container is never mistaken for the owner.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ZOMBIE: Final = -1


@dataclass(frozen=True)
class Owner:
    """A process of this machine, told apart from every other there ever was."""

    boot: str
    namespace: int
    pid: int
    started: int
    """Clock ticks from boot to the start of the process (field 22 of /proc/PID/stat, see proc(5))."""

    @classmethod
    def current(cls) -> Owner:
        """Return the running process."""
        running = cls.of(os.getpid())
        assert running is not None, "a running process has an entry in /proc"
        return running

    @classmethod
    def of(cls, pid: int) -> Owner | None:
        """Return the process of that number; None where there is none."""
        started = _started(pid)
        return None if started in (None, _ZOMBIE) else cls(_boot(), _namespace(), pid, started)

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read what ``str(owner)`` wrote; None where it is something else."""
        try:
            boot, namespace, pid, started = text.split("/")
            return cls(boot, int(namespace), int(pid), int(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.pid}/{self.started}"

    @property
    def visible(self) -> bool:
        """Whether the process is, or was, of this boot and of this pid namespace."""
        return self.boot == _boot() and self.namespace == _namespace()

    @property
    def rebooted(self) -> bool:
        """Whether the machine was restarted since the process was there."""
        return self.boot != _boot()

    @property
    def alive(self) -> bool:
        """Whether the process lives. One in another pid namespace can't be seen, so counts as alive."""
        if self.rebooted:
            return False
        if self.namespace != _namespace():
            return True
        started = _started(self.pid)
        return _hidden(self.pid) if started is None else started == self.started


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _started(pid: int) -> int | None:
    """Return the start time of a process; None where none is to be seen, :data:`_ZOMBIE` where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name in parentheses may hold blanks and parentheses; after it the state is field 3.
    fields = stat.rpartition(")")[2].split()
    return _ZOMBIE if fields[0] in "ZX" else int(fields[19])


def _hidden(pid: int) -> bool:
    """Whether a process that /proc doesn't show is another user's, and lives: /proc may be mounted with ``hidepid``.

    Its start can't be seen then, so another process with the same number counts as the same.
    """
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False  # it began since we looked, or /proc would have shown it
