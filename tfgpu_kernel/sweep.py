"""Removing what nobody owns any more: containers and run folders of processes that are gone.

A kernel that was running when its server died may be in the middle of a long training, so it is left
alone for a grace period; one that never became ready is of use to nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import handover, lease, ready, runfolder
from .engine.base import ContainerRecord, Engine
from .errors import TfgpuError
from .labels import KIND, KIND_KERNEL, UID, KernelLabels
from .owner import Owner
from .runfolder import KernelState, RunFolder

GRACE_SECONDS: Final = 24 * 3600.0
"""How long a running kernel outlives its server before an automatic sweep takes it."""
IDLE_GRACE_SECONDS: Final = 3600.0
"""The same for one that has been found idle since."""
_ANSWER_SECONDS: Final = 2.0
"""An idle kernel answers in milliseconds, on a loaded machine in some hundred; a busy one not before its cell ends."""
_ORPHANED: Final = "orphaned"
_IDLE: Final = "idle"

_swept: set[str] = set()


@dataclass(frozen=True)
class Orphan:
    """A container whose owner is gone."""

    container: ContainerRecord
    run: RunFolder
    state: KernelState | None


async def orphans(engine: Engine) -> Sequence[Orphan]:
    """Find this user's kernel containers whose owner is gone."""
    found = await engine.list({KIND: KIND_KERNEL, UID: str(os.geteuid())})
    result = []
    for container in found:
        labels = KernelLabels.from_docker(container.labels)
        if labels is None or labels.uid != os.geteuid():
            continue
        run = RunFolder(Path(labels.run))
        # The folder knows who took the kernel over; the label, which can't change, who made it.
        owner = await asyncio.to_thread(run.owner) or Owner.parse(labels.owner)
        if owner is None or owner.alive:
            continue
        result.append(Orphan(container, run, await asyncio.to_thread(run.state)))
    return result


async def sweep(engine: Engine, *, grace: float) -> Sequence[Orphan]:
    """Remove orphans, but spare running ones for ``grace`` seconds after they were first seen orphaned.

    Return those that were removed. Run folders without a container go as well.
    """
    removed = []
    for orphan in await orphans(engine):
        if orphan.state is None or orphan.container.state != "running" or await _overdue(orphan, grace):
            await engine.remove(orphan.container.id)
            await asyncio.to_thread(orphan.run.remove)
            removed.append(orphan)
    await remove_stale_folders(engine)
    await lease.sweep(engine)
    return removed


async def remove_stale_folders(engine: Engine) -> None:
    """Remove run folders that no container refers to and no living process made."""
    found = await engine.list({KIND: KIND_KERNEL, UID: str(os.geteuid())})
    used = {
        os.path.realpath(labels.run) for record in found if (labels := KernelLabels.from_docker(record.labels))
    }
    for folder in await asyncio.to_thread(lambda: list(runfolder.existing())):
        if os.path.realpath(folder.path) not in used and not folder.owner_alive():
            await asyncio.to_thread(folder.remove)


async def once(engine: Engine, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
    """Sweep before the first start of this process; a failure is told, and hinders nothing."""
    if engine.address in _swept:
        return
    _swept.add(engine.address)
    try:
        removed = await sweep(engine, grace=GRACE_SECONDS)
    except TfgpuError as error:
        log.warning("Old kernels could not be looked for: %s", error)
        return
    for orphan in removed:
        log.info("Removed the container %s of a server that is gone", orphan.container.name)


async def _overdue(orphan: Orphan, grace: float) -> bool:
    """Whether an orphan's grace is over; the first sweep that sees one starts its clock.

    An idle one has less; that clock starts when a sweep finds it idle, and stops when one finds it busy.
    """
    if grace <= 0 or _older(orphan.run, _ORPHANED, grace):
        return True
    left = await asyncio.to_thread(handover.read, orphan.run)
    if left is None:
        return False
    try:
        await asyncio.wait_for(ready.ask(left.connection), _ANSWER_SECONDS)
    except (TimeoutError, asyncio.TimeoutError):
        (orphan.run.path / _IDLE).unlink(missing_ok=True)
        return False
    return _older(orphan.run, _IDLE, min(grace, IDLE_GRACE_SECONDS))


def _older(run: RunFolder, mark: str, seconds: float) -> bool:
    """Whether a mark in the run folder is older than this; makes it where it isn't there."""
    seen = run.path / mark
    try:
        return time.time() - seen.stat().st_mtime > seconds
    except FileNotFoundError:
        try:
            seen.touch()
        except OSError:
            return True  # no run folder, no sockets: nobody can reach that kernel again
        return False


def claim(run: RunFolder) -> None:
    """Stop an orphan's clocks: it has an owner again."""
    for mark in (_ORPHANED, _IDLE):
        (run.path / mark).unlink(missing_ok=True)


async def regularly(engine: Engine, log: logging.Logger | logging.LoggerAdapter[Any], every: float = 600.0) -> None:
    """Sweep again and again, until cancelled."""
    while True:
        await asyncio.sleep(every)
        _swept.discard(engine.address)
        await once(engine, log)
