"""What a kernel is that waits to be taken, where its record is, and how one speaks to it.

    <run folder>/pool.json     what a waiting kernel is; there from when it waits until it is taken

The kernel itself decides who gets it, see :mod:`tfgpu_kernel.boot.warm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from . import runfolder
from .boot.warm import SOCKET
from .engine.base import Engine
from .errors import TfgpuError
from .runfolder import RunFolder

_RECORD: Final = "pool.json"
ANSWER_SECONDS: Final = 5.0
"""A waiting kernel answers within milliseconds; beyond this a cold start is as good."""


@dataclass(frozen=True)
class Waiting:
    """A kernel that waits to be taken, as its record has it."""

    kernel_name: str
    image: str
    parts: Mapping[str, str]
    engine: str
    container: str
    key: str
    gpus: tuple[str, ...]
    env: tuple[str, ...]
    """Names of the environment variables that its container was made with."""
    since: float
    memory_bytes: int
    limits: Mapping[str, int]
    """What of its limits can be changed while it runs, in Docker's words."""
    lacking: tuple[str, ...]
    """Packages that the modules imported ahead looked for, and that its image has not."""

    def write(self, run: RunFolder) -> None:
        """Offer the kernel to everybody."""
        (run.path / _RECORD).write_text(json.dumps(asdict(self)))

    @staticmethod
    def withdraw(run: RunFolder) -> None:
        """Offer it to nobody any more."""
        (run.path / _RECORD).unlink()


def read(run: RunFolder) -> Waiting | None:
    """Return what waits in a run folder; None where nothing does."""
    try:
        record = json.loads((run.path / _RECORD).read_text())
        return Waiting(**{**record, **{name: tuple(record[name]) for name in ("env", "gpus", "lacking")}})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def offered(engine: Engine) -> list[tuple[RunFolder, Waiting]]:
    """Return what waits on this engine, and belongs to a process that lives."""
    found = ((run, read(run)) for run in runfolder.existing())
    return [(run, entry) for run, entry in found if entry and entry.engine == engine.address and run.owner_alive()]


def unclaimed(run: RunFolder) -> bool:
    """Whether nobody has claimed the kernel yet: it removes its socket before it becomes anybody's."""
    return (run.io / SOCKET).exists()


class Line:
    """The connection to a waiting kernel: JSON, a line each way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, message: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        line = await self.reader.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._writer.close()


async def connect(run: RunFolder, message: Mapping[str, Any]) -> tuple[Line, dict[str, Any]] | None:
    """Connect to a waiting kernel and ask; None where it is taken or gone."""
    line = None
    try:
        line = Line(*await asyncio.open_unix_connection(str(run.io / SOCKET)))
        await line.send(message)
        answer = await asyncio.wait_for(line.receive(), ANSWER_SECONDS)
    except (OSError, ValueError, TimeoutError, asyncio.TimeoutError):
        answer = None
    except BaseException:
        if line is not None:
            line.close()
        raise
    if line is None or answer is None:
        if line is not None:
            line.close()
        return None
    return line, answer


async def remove(engine: Engine, container: str, run: RunFolder | None) -> None:
    """Remove a container and, where it has one of its own, its run folder."""
    with contextlib.suppress(TfgpuError):  # the next sweep finds it
        await engine.remove(container)
    if run is not None:
        await asyncio.to_thread(run.remove)
