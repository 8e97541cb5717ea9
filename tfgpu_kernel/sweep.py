"""Removing what nobody owns any more: containers and run folders of processes that are gone.

A kernel that was running when its server died may be in the middle of a long training, so it is left
alone for a grace period; one that never became ready is of use to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import handover, held, lease, ready, remnants, runfolder
from .config import KernelConfig
from .engine import find
from .engine.base import ContainerRecord, Engine
from .errors import EngineNotFound, TfgpuError
from .handover import Handover
from .labels import KIND, KIND_KERNEL, OWNER, UID, KernelLabels
from .owner import Owner
from .runfolder import KernelState, RunFolder

log = logging.getLogger(__name__)

_YOUNG_SECONDS: Final = 10.0
"""A run folder without an owner is being made; later, whoever made it was killed in between."""
_ANSWER_SECONDS: Final = 2.0
"""An idle kernel answers in milliseconds, on a loaded machine in some hundred; a busy one not before its cell ends."""
_VANISHED_SECONDS: Final = 1500.0
"""Whoever still holds a kernel whose run folder was removed makes the folder again with the next of its own sweeps
(see :func:`regularly`); after two of them nobody has."""
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
        if labels is None or labels.uid != os.geteuid() or held.here(container.id):
            continue
        run = await asyncio.to_thread(_run_of, container, labels)
        # The folder knows who took the kernel over; the label, which can't change, who made it.
        owner = await asyncio.to_thread(run.owner) or Owner.parse(labels.owner)
        # Our own whose folder is gone: a launch failed, and the engine didn't remove the container then.
        given_up = owner == Owner.current() and not await asyncio.to_thread(run.path.exists)
        if owner is None or (owner.alive and not given_up):
            continue
        result.append(Orphan(container, run, await asyncio.to_thread(run.state)))
    return result


def _run_of(container: ContainerRecord, labels: KernelLabels) -> RunFolder:
    """Return a container's run folder; one that was made again may have lost the name that the label gives it."""
    run = RunFolder.named(labels.run)
    if run.path.exists():
        return run
    states = ((folder, folder.state()) for folder in runfolder.existing())
    return next((folder for folder, state in states if state and state.container == container.id), run)


async def sweep(engine: Engine, *, spare: bool = True) -> Sequence[Orphan]:
    """Remove orphans, and what else killed processes left; return the orphans that were removed.

    :param spare: leave running ones alone for as long as their settings say (``grace_busy``, ``grace_idle``).
    """
    removed = []
    await asyncio.to_thread(held.restore)
    for orphan in await orphans(engine):
        of_use = await asyncio.to_thread(_has_run, orphan) or await asyncio.to_thread(_vanished, orphan)
        running = of_use and orphan.container.state in {"running", "paused"}
        if running and spare and not await _overdue(orphan):
            continue
        # From here on no server can take the kernel up that is about to go; one that was faster has it.
        with orphan.run.reserved(ownerless) as ours:
            if ours or not orphan.run.path.exists():
                await engine.remove(orphan.container.id)
                await asyncio.to_thread(_forget, orphan.run)
                removed.append(orphan)
    await remove_stale_folders(engine)
    await lease.sweep(engine)
    await remnants.sweep(engine)
    return removed


def _has_run(orphan: Orphan) -> bool:
    """Whether an orphan's kernel was ready once; a state that can't be read now is no reason to end a training."""
    return orphan.state is not None or orphan.run.has_state


def _vanished(orphan: Orphan) -> bool:
    """Whether an orphan's run folder was removed while it ran: then another process than its maker may still hold it.

    What is left then is nothing, or a folder that a sweep made for its mark. The owner's name is in it before there
    is a container, and a folder of ours goes only after its container, unless the engine failed there.
    """
    maker = Owner.parse(orphan.container.labels.get(OWNER, ""))
    return orphan.state is None and orphan.run.owner() is None and maker != Owner.current()


def ownerless(owner: Owner | None) -> bool:
    """Whether a kernel with this owner is nobody's."""
    return owner is None or not owner.alive


def _forget(run: RunFolder) -> None:
    remnants.forget_connection(run)
    run.remove()


async def remove_stale_folders(engine: Engine) -> None:
    """Remove run folders that no container refers to and no living process made.

    One whose container is on another engine can't be judged from here. It has the grace of a kernel that runs, which
    its own engine's sweeps would give it, too: that engine may never come back.
    """
    found = await engine.list({KIND: KIND_KERNEL, UID: str(os.geteuid())})
    ours = [(record, labels) for record in found if (labels := KernelLabels.from_docker(record.labels))]
    used = await asyncio.to_thread(lambda: {os.path.realpath(_run_of(*one).path) for one in ours})
    for folder in await asyncio.to_thread(lambda: list(runfolder.existing())):
        if os.path.realpath(folder.path) in used or not ownerless(folder.owner()) or _young(folder):
            continue
        if not await asyncio.to_thread(_may_run_elsewhere, folder, engine):
            await asyncio.to_thread(_forget, folder)


def _may_run_elsewhere(folder: RunFolder, engine: Engine) -> bool:
    """Whether a folder's kernel may run on another engine, since this boot, and its grace isn't over."""
    address, owner = folder.engine(), folder.owner()
    if not address or find.same(address, engine.address) or (owner is not None and owner.boot != Owner.current().boot):
        return False
    if not _older(folder, _ORPHANED, _grace_busy(folder, handover.read(folder))):
        return True
    log.warning("The run folder %s goes: its kernel was on %s, which nobody has used since", folder.path, address)
    return False


def _young(folder: RunFolder) -> bool:
    """Whether a folder may be one that is just being made, and doesn't say yet whose it is."""
    try:
        return folder.owner() is None and time.time() - folder.path.stat().st_mtime < _YOUNG_SECONDS
    except OSError:
        return False


async def once(engine: Engine, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
    """Sweep before the first start of this process; a failure is told, and hinders nothing."""
    if engine.address in _swept:
        return
    _swept.add(engine.address)
    try:
        removed = await sweep(engine)
    except TfgpuError as error:
        log.warning("Old kernels could not be looked for: %s", error)
        return
    for orphan in removed:
        log.info("Removed the container %s of a server that is gone", orphan.container.name)


async def _overdue(orphan: Orphan) -> bool:
    """Whether an orphan's grace is over; the first sweep that sees one starts its clock.

    An idle one has less; that clock starts when a sweep finds it idle, and stops when one finds it busy.
    """
    run = orphan.run
    if not run.path.exists():
        with contextlib.suppress(OSError):
            run.path.mkdir(mode=0o700, parents=True)
    left = await asyncio.to_thread(handover.read, run)
    if _older(run, _ORPHANED, _grace_busy(run, left)):
        return True
    if left is None:
        return False
    try:
        await asyncio.wait_for(ready.ask(left.connection), _ANSWER_SECONDS)
    except (TimeoutError, asyncio.TimeoutError):
        (run.path / _IDLE).unlink(missing_ok=True)
        return False
    return _older(run, _IDLE, left.grace_idle)


def _grace_busy(run: RunFolder, left: Handover | None) -> float:
    """Return how long a busy orphan is spared: as it says itself, if it can be reached at all."""
    if left is not None:
        return left.grace_busy
    # There is one that can't be read after another version of this package.
    return KernelConfig.grace_busy if (run.path / handover.FILE).exists() else _VANISHED_SECONDS


def seconds_left(run: RunFolder) -> float:
    """Return for how long automatic sweeps still spare a running orphan; the whole grace where none has seen it yet.

    For one that was found idle it is less; that one's clock stops again when a sweep finds it busy.
    """
    left = handover.read(run)
    graces = {
        _ORPHANED: _grace_busy(run, left),
        _IDLE: left.grace_idle if left else KernelConfig.grace_idle,
    }
    seconds = graces[_ORPHANED]
    for mark, grace in graces.items():
        since = _since(run, mark)
        if since is not None:
            seconds = min(seconds, since + grace - time.clock_gettime(time.CLOCK_MONOTONIC))
    return max(0.0, seconds)


def _older(run: RunFolder, mark: str, seconds: float) -> bool:
    """Whether a mark in the run folder is older than this; makes it where it isn't there.

    The mark holds for how long the machine has been running since its boot, without suspends: neither a clock that is
    set nor a weekend for which the lid was shut must end a training.
    """
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    since = _since(run, mark)
    if since is not None:
        return now - since > seconds
    with contextlib.suppress(TfgpuError):
        run.keep(mark, f"{now} {run.owner()}".encode())
    return False


def _since(run: RunFolder, mark: str) -> float | None:
    """Return when a mark was made; None where there is none, or it was made when the kernel was somebody else's.

    A sweep may make one just after a server has taken the kernel up.
    """
    try:
        since, owner = (run.path / mark).read_text().split(" ", 1)
        return float(since) if owner == str(run.owner()) else None
    except (OSError, ValueError):
        return None


def claim(run: RunFolder) -> None:
    """Stop an orphan's clocks: it has an owner again."""
    for mark in (_ORPHANED, _IDLE):
        with contextlib.suppress(OSError):  # it names another owner, so it counts for nothing
            (run.path / mark).unlink(missing_ok=True)


async def regularly(log: logging.Logger | logging.LoggerAdapter[Any], every: float = 600.0) -> None:
    """Sweep again and again, until cancelled; on the engine that is found first, which may come later than this."""
    engine: Engine | None = None
    while True:
        await asyncio.sleep(every)
        try:
            engine = engine or find.engine()
            _swept.discard(engine.address)
            await once(engine, log)
        except EngineNotFound:
            continue
        except Exception:  # whatever it was, the next sweep comes
            log.exception("Old kernels could not be looked for")
