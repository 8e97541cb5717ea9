"""Taking up kernels that outlived their server: at a server's start, before anybody lists kernels, or when told.

A kernel is known by its run folder: who owned it, in which container it runs, by which key it is reached. So
the same kernel, under the same id, gets a new manager with all that jupyter_client expects of one that was
started here, interrupt and restart included. (jupyter_server's ``allow_external_kernels`` only lists kernels.)
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from . import autopsy, enrol, handover, obituaries, runfolder, sweep
from .engine import find
from .engine.base import ContainerRecord, Engine
from .errors import EngineNotFound, KernelDied, KernelNotAdopted, KernelNotFound, TfgpuError
from .handover import Handover
from .labels import KIND, KIND_KERNEL, UID
from .provisioner import TfgpuProvisioner
from .runfolder import KernelState, RunFolder

PATIENCE_SECONDS: Final = 5.0
"""How long a server's start waits for the engine. After that kernels are taken up unseen: not knowing is not death."""

log = logging.getLogger(__name__)

Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Left:
    """A kernel whose server is gone."""

    run: RunFolder
    state: KernelState
    handover: Handover


@dataclass(frozen=True)
class Adopted:
    """A kernel that was taken up."""

    kernel_id: str
    run: RunFolder
    state: KernelState
    manager: Any
    """Its new kernel manager."""


def left(root: str | None = None) -> Sequence[Left]:
    """Return the kernels whose owner is gone.

    :param root: only those of a server with this root folder; None for all.
    """
    found = []
    for run in runfolder.existing():
        if run.owner_alive():
            continue
        state, what = run.state(), handover.read(run)
        if (run.has_state and state is None) or handover.unreadable(run):
            log.warning("The kernel of %s can't be taken up: what its server left there can't be read", run.path)
        if state is None or state.state != "running" or what is None:
            continue
        if root is None or (what.root and what.root == handover.root_of(root)):
            found.append(Left(run, state, what))
    return found


def all_of(multi: Any, root: str, log: Log) -> Sequence[Adopted]:
    """Take up what a former server with the same root folder left; for a loop that doesn't run yet.

    What keeps one kernel from it is told, and keeps no other: see :func:`_tell_left`.

    :param multi: the server's ``MappingKernelManager``.
    """
    adopted = []
    for address, ones in _by_engine(left(root)):
        running = ones
        try:
            engine = _engine(address)
            with ThreadPoolExecutor(1) as thread:
                running = thread.submit(asyncio.run, alive(engine, ones)).result()
        except EngineNotFound as error:
            for one in ones:
                refusal = _refusal(one, error)
                refusal.__cause__ = error
                _tell_left(one, refusal, log)
            continue
        except Exception as error:  # the kernels may be well, whatever it was
            log.warning("The engine can't tell which kernels live, so all count as living: %s", error or repr(error))
        for one in running:
            try:
                new = take(multi, engine, one, log)
            except KernelNotAdopted as error:
                _tell_left(one, error, log)
            else:
                adopted += [new] if new is not None else []
    return adopted


async def one(multi: Any, root: str, kernel_id: str, log: Log) -> Adopted:
    """Take up one kernel that a former server left, whichever root folder that had.

    :raises KernelNotFound: when there is none, it has ended, or another server was faster.
    :raises KernelNotAdopted: when something keeps this server from it.
    """
    waiting = await asyncio.to_thread(lambda: [kernel for kernel in left() if kernel.state.kernel_id == kernel_id])
    adopted = None
    for address, ones in _by_engine(waiting):
        engine = _engine(address)
        for kernel in await alive(engine, ones):
            adopted = take(multi, engine, kernel, log)
    if adopted is None and await asyncio.to_thread(_can_not_be_read, kernel_id):
        raise KernelNotFound(
            f"The kernel {kernel_id} can't be taken up: what its server left for the next can't be read, as it may be "
            "after another version of this package.",
            "take it up with a server of that version, or end it: jupyter tfgpu adopt --stop.",
        )
    if adopted is None:
        raise KernelNotFound(
            f"No kernel {kernel_id} runs without a server: it has ended, or a server has it.",
            "choose one from jupyter tfgpu adopt.",
        )
    here = replace(waiting[0].handover, root=handover.root_of(root))
    try:
        await asyncio.to_thread(here.write, adopted.run)
    except TfgpuError as error:
        log.warning("Kernel %s won't be taken up by the next server with this root folder: %s", kernel_id, error)
    return adopted


def _can_not_be_read(kernel_id: str) -> bool:
    """Whether a kernel is there, and what its server left for the next makes no sense."""
    found = (run for run in runfolder.existing() if (state := run.state()) and state.kernel_id == kernel_id)
    return any(not run.owner_alive() and handover.unreadable(run) for run in found)


def _by_engine(waiting: Sequence[Left]) -> Sequence[tuple[str, Sequence[Left]]]:
    """Sort kernels by the address of the engine that has them, which needn't be the one that new kernels get."""
    addresses = {one.run.engine() for one in waiting}
    return [(address, [one for one in waiting if one.run.engine() == address]) for address in sorted(addresses)]


def _engine(address: str) -> Engine:
    """Return the engine at an address, or where none is known that of new kernels.

    :raises EngineNotFound: where there is none.
    """
    return find.at(address) if address else find.engine()


async def alive(engine: Engine, waiting: Sequence[Left]) -> Sequence[Left]:
    """Return those that run; tell why the others ended.

    :raises TfgpuError: when the engine doesn't answer.
    """
    listing = engine.list({KIND: KIND_KERNEL, UID: str(os.geteuid())})
    found: Mapping[str, ContainerRecord] = {
        record.id: record for record in await asyncio.wait_for(listing, PATIENCE_SECONDS)
    }
    running = []
    for one in waiting:
        record = found.get(one.handover.container)
        # By its id, which only a server writes: after a restart the container's label may name another folder.
        if record and record.state in {"running", "paused"}:
            running.append(one)
        else:
            await _tell_death(engine, one, record)
    return running


async def _tell_death(engine: Engine, one: Left, record: ContainerRecord | None) -> None:
    """Say why a kernel ended while no server was there; the next sweep removes what is left of it."""
    account: TfgpuError = KernelDied(
        "The kernel ended while no server was running: its container is gone.", "restart the kernel."
    )
    if record is not None:
        left = one.handover
        owner = await asyncio.to_thread(one.run.owner)
        found = await autopsy.of_container(record.id, left.image.requested, bool(left.gpu.uuids), owner, engine)
        account = found or account
    await asyncio.to_thread(autopsy.note, one.run, account)
    state = one.state
    obituaries.publish(obituaries.Obituary(state.kernel_id, state.kernel_name, state.notebook, account))


def _tell_left(one: Left, error: KernelNotAdopted, log: Log) -> None:
    """Say why a kernel goes on that this server hasn't got."""
    state = one.state
    foreseen = isinstance(error.__cause__, TfgpuError | NoSuchKernel)
    log.error("Kernel %s is left alone. %s", state.kernel_id, error, exc_info=None if foreseen else error.__cause__)
    obituaries.publish(obituaries.Obituary(state.kernel_id, state.kernel_name, state.notebook, error))


def _refusal(one: Left, why: Exception) -> KernelNotAdopted:
    """Return what there is to say of a kernel that can't be taken up."""
    text = why.message if isinstance(why, TfgpuError) else str(why) or type(why).__name__
    first = f"{why.remedy.rstrip('.')}; then: " if isinstance(why, TfgpuError) else ""
    return KernelNotAdopted(
        f"The kernel goes on, but this server could not take it up: {text.rstrip('.')}.",
        f"{first}jupyter tfgpu adopt {one.state.kernel_id[:12]} (with --stop to end it).",
    )


def take(multi: Any, engine: Engine, one: Left, log: Log) -> Adopted | None:
    """Take up one kernel; None where another server was faster, or this one has it.

    :raises KernelNotAdopted: when it can't be; then it is nobody's, as before.
    """
    kernel_id = one.state.kernel_id
    if kernel_id in multi:
        return None
    try:
        manager = _manager(multi, one)
        before = one.run.owner()
        if not one.run.take_over(sweep.ownerless):
            return None
        try:
            _go_on(multi, engine, one, manager, log)
        except BaseException:
            try:
                enrol.leave(multi, kernel_id, manager)
                manager.provisioner.release()
            finally:
                one.run.give_back(before)
            raise
    except NoSuchKernel as error:
        gone = TfgpuError(f"its kernelspec {one.state.kernel_name!r} is not installed any more.", "install it again.")
        raise _refusal(one, gone) from error
    except Exception as error:
        raise _refusal(one, error) from error
    sweep.claim(one.run)
    log.info("Kernel %s goes on: taken up from a server that is gone", kernel_id)
    return Adopted(kernel_id, one.run, one.state, manager)


def _go_on(multi: Any, engine: Engine, one: Left, manager: Any, log: Log) -> None:
    """Do for a kernel, which is ours by now, what a start would have done."""
    manager.load_connection_info(manager.provisioner.resume(one.handover, one.run, engine))
    try:
        manager.write_connection_file()
    except OSError as error:
        log.warning("Kernel %s has no connection file for other programs: %s", one.state.kernel_id, error)
    enrol.enter(multi, one.state.kernel_id, manager)


def _manager(multi: Any, one: Left) -> Any:
    """Make a manager as a start would have left it.

    :raises NoSuchKernel: when the kernelspec is gone.
    """
    kernel_id = one.state.kernel_id
    manager: KernelManager
    manager, _, _ = multi.pre_start_kernel(one.state.kernel_name, {"kernel_id": kernel_id})
    manager.kernel_id = kernel_id
    manager.provisioner = KernelProvisionerFactory.instance(parent=multi).create_provisioner_instance(
        kernel_id, manager.kernel_spec, parent=manager
    )
    if not isinstance(manager.provisioner, TfgpuProvisioner):
        raise NoSuchKernel(one.state.kernel_name)  # the kernelspec names another provisioner now
    # What a restart starts with.
    args: dict[str, Any] = {"cwd": one.handover.cwd, "env": {**os.environ, **one.handover.env}}
    manager._launch_args = args
    manager._attempted_start = True
    return manager


def let_go(multi: Any, log: Log) -> Sequence[str]:
    """Let go of the kernels that are to outlive this server, and return their ids."""
    gone = []
    for kernel_id, manager in list(multi._kernels.items()):
        provisioner = getattr(manager, "provisioner", None)
        if not isinstance(provisioner, TfgpuProvisioner) or not provisioner.has_process:
            continue
        if provisioner.on_server_stop != "detach":
            continue
        enrol.leave(multi, kernel_id, manager)
        provisioner.release()
        log.info("Kernel %s goes on without this server", kernel_id)
        gone.append(kernel_id)
    return gone
