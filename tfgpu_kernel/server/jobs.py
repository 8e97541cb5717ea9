"""Locking, verifying and keeping packages, as processes of their own: the server goes on meanwhile.

What runs is this package's own command line, so that a browser and a terminal do the very same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tornado import web

from .. import scratch

Verb = Literal["lock", "verify", "add", "remove"]
State = Literal["running", "done", "failed", "cancelled"]

_KEPT: Final = 20
"""How many jobs that are over are remembered."""
_SAID: Final = 200
"""How many lines of one are."""
_NOT_REPRODUCED: Final = 3
"""Exit code of verify where the results are others; that, too, is a job done."""
_LINE_BYTES: Final = 2**20
"""A job that prints a longer line breaks off."""
_CLEARS_UP_SECONDS: Final = 30.0
_ENDS_SECONDS: Final = 10.0
"""So long a process may take to remove its container."""
_UNDER_WAY: Final = {
    "lock": "It is being locked", "verify": "It is being verified",
    "add": "Packages are being added to it", "remove": "Packages are being removed from it",
}  # fmt: skip
_CELL: Final = re.compile(r"Cell (\d+) of (\d+)$")


_log = logging.getLogger(__name__)


@dataclass
class Job:
    """One run of a verb on a notebook. ``path`` is as the Contents API has it."""

    id: str
    verb: Verb
    path: str
    file: Path
    packages: tuple[str, ...]
    state: State = "running"
    code: int | None = None
    lines: list[str] = field(default_factory=list)
    report: str = ""
    """The HTML report of a verification."""
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None

    def told(self) -> dict[str, Any]:
        """Return what browsers get."""
        last = self.lines[-1] if self.lines else ""
        cell = _CELL.match(last)
        return {
            "id": self.id,
            "verb": self.verb,
            "path": self.path,
            "state": self.state,
            "code": self.code,
            "text": last,
            "fraction": (int(cell[1]) - 1) / int(cell[2]) if cell and self.state == "running" else None,
            "lines": self.lines[-_SAID:] if self.state != "running" else [],
            "report": bool(self.report),
        }


class Jobs:
    """The jobs of one server; closing it ends those that run."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def start(self, verb: Verb, path: str, file: Path, packages: Sequence[str], further: Sequence[str]) -> Job:
        """Start a verb on a notebook's file, or return the job that is at just that already.

        :raises tornado.web.HTTPError: 409 where another job works on that notebook.
        """
        for job in self._jobs.values():
            if job.file != file or job.state != "running":
                continue
            if (job.verb, job.packages) == (verb, tuple(packages)):
                return job
            raise web.HTTPError(409, f"{_UNDER_WAY[job.verb]}. Wait until that is done, or cancel it; then try again.")
        for old in [job.id for job in self._jobs.values() if job.state != "running"][:-_KEPT]:
            del self._jobs[old]
        job = Job(secrets.token_hex(8), verb, path, file, tuple(packages))
        self._jobs[job.id] = job
        job.task = asyncio.ensure_future(_run(job, further))
        return job

    def find(self, name: str) -> Job | None:
        """Return a job by its id."""
        return self._jobs.get(name)

    async def close(self) -> None:
        """End all that run."""
        for job in self._jobs.values():
            await cancel(job)


async def cancel(job: Job) -> None:
    """End a job as Ctrl-C does, so that it removes its container itself."""
    if job.state == "running":
        job.state = "cancelled"
        if job.process is not None:  # one that is still being started is interrupted right after
            _interrupt(job.process)
    if job.task is not None:
        _, late = await asyncio.wait([job.task], timeout=_CLEARS_UP_SECONDS)
        if late and job.process is not None:
            with contextlib.suppress(ProcessLookupError):
                job.process.kill()
            await asyncio.wait(late, timeout=_ENDS_SECONDS)


def _interrupt(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


async def _run(job: Job, further: Sequence[str]) -> None:
    """Run a job to its end; whatever breaks it off, it doesn't run for ever."""
    try:
        await _follow(job, further)
    except Exception as error:
        _log.exception("The job %s of %s broke off", job.verb, job.file)
        job.lines.append(f"It broke off: {error}. The server's log has the details.")
        if job.state == "running":
            job.state = "failed"
    finally:
        await _end(job.process)


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)  # it removes its container
        try:
            await asyncio.wait_for(_unheard(process), _ENDS_SECONDS)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()


async def _unheard(process: asyncio.subprocess.Process) -> None:
    """Wait for a process's end; what it says must be read, or it waits for that."""
    assert process.stdout is not None
    while await process.stdout.read(_LINE_BYTES):
        pass
    await process.wait()


async def _follow(job: Job, further: Sequence[str]) -> None:
    with scratch.folder() as folder:
        page = folder / "report.html"
        more = ["--html", str(page)] if job.verb == "verify" else []
        _let_children_be_interrupted()
        job.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tfgpu_kernel.cli", job.verb, *more, *further, str(job.file), *job.packages,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd=job.file.parent, env={**os.environ, "COLUMNS": "200"}, limit=_LINE_BYTES,
        )  # fmt: skip
        if job.state == "cancelled":
            _interrupt(job.process)
        assert job.process.stdout is not None
        async for raw in job.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if line:
                job.lines.append(line)
        job.code = await job.process.wait()
        if page.is_file():
            job.report = page.read_text(encoding="utf-8")
        if job.state == "running":
            job.state = "done" if job.code in (0, _NOT_REPRODUCED) else "failed"


def _let_children_be_interrupted() -> None:
    """Ignore SIGINT by a handler that does nothing: a program that is started inherits the ignoring, but no handler.

    A server that a shell started in the background ignores SIGINT, and no job could be cancelled in good order.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: None)


def options(settings: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    """Return settings of ``c.TfgpuProvisioner`` as options of the command line."""
    found = []
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if name in without:
            continue
        if isinstance(value, bool):
            found.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, Mapping):
            found += [f"{option}={key}={one}" for key, one in value.items()]
        elif name == "gpus" and isinstance(value, list | tuple):
            found.append(f"{option}=device={','.join(map(str, value))}")  # one option, not one for each
        elif isinstance(value, list | tuple):
            found += [f"{option}={one}" for one in value if isinstance(one, str)]
        else:
            found.append(f"{option}={value}")
    return found
