"""Take a kernel that is finished already, where one is just what a cold start would make.

Which one fits is asked by comparing what its container was made from with what a cold start would make now, so
nothing that a start decides can be forgotten here. Any process of the user may claim; only a server keeps kernels
ready (:mod:`tfgpu_kernel.pool`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from . import additions, ahead, bootfile, gpus, lease, picking, runfolder, waiting
from .boot.narrow import NAME as CUDA_CHOICE
from .boot.variables import matters_early
from .config import KernelConfig
from .connection import CONNECTION_FILE, Connection
from .engine.base import Engine
from .errors import TfgpuError, unexpected
from .gpu import units
from .gpu.request import NO_GPU
from .gpus import Grant, Judged
from .image.facts import identity
from .launch import NO_RUN, Kernel, Prepared, write_running
from .progress import Report, Step, unheard
from .runfolder import RunFolder
from .threads import carried_out
from .waiting import Line, Waiting

log = logging.getLogger(__name__)

_NOWHERE: Final = RunFolder(NO_RUN)
# Docker can change these while a container runs, but take none away: 0 means no change.
_LIMITS: Final = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")

kept_here: Final[set[str]] = set()
"""Containers that this process's own pool holds, or sees off; it watches their end itself."""
asking_here: Final[set[str]] = set()
"""Containers that this process is asking for now: one start at a time, since all share the watch of the end."""
taken_here: Final[set[str]] = set()
"""Containers that this process has claimed."""


@dataclass(frozen=True)
class Wish:
    """What a start wants of a waiting kernel; where that can't be had, why not."""

    parts: Mapping[str, str]
    """A hash of each thing that must be the same, by what the log calls it."""
    order: Mapping[str, Any]
    """What the kernel reads when it begins, see :mod:`tfgpu_kernel.boot.warm`."""
    limits: Mapping[str, int]
    """What can be set when it is taken, in Docker's words; 0 for no limit."""
    refusal: str = ""


def wish(prepared: Prepared, engine: Engine) -> Wish:
    """Say what a waiting kernel must be like to serve this start. Reads the notebook; call it in a thread."""
    preset, refusal = ahead.judge(prepared)
    order = {"preload": list(prepared.config.preload), "preset": dict(preset)}
    refusal = refusal or _packages_refusal(prepared)
    if not prepared.config.pool_size:
        refusal = "pool_size is 0"
    body = prepared.body(_NOWHERE)
    limits = {name: int(body["HostConfig"].pop(name)) for name in _LIMITS}
    return Wish(_parts(prepared, engine, order, body), order, limits, refusal)


async def take(prepared: Prepared, wanted: Wish, engine: Engine, report: Report) -> Kernel | None:
    """Return a waiting kernel that is what a cold start would be; None where there is none.

    A claim that fails is no error: the kernel that failed is gone, and the caller starts a cold one.
    """
    reason = wanted.refusal or "none of this kind is ready"
    if not wanted.refusal:
        for run, entry in await asyncio.to_thread(waiting.offered, engine):
            differences = [name for name, text in wanted.parts.items() if entry.parts.get(name) != text]
            if differences:
                if entry.kernel_name == prepared.request.kernel_name:
                    reason = f"the one that is ready has another {', another '.join(differences)}"
                continue
            if any(entry.limits[name] and not number for name, number in wanted.limits.items()):
                reason = "the one that is ready has a limit that can't be taken away"
                continue
            unfit = await asyncio.to_thread(_unfit, prepared, entry)
            if unfit:
                reason = f"of the one that is ready, {unfit}"
                continue
            kernel = await _claim(run, entry, prepared, wanted, engine)
            if kernel is not None:
                report(Step("ready", f"A kernel was ready: taken in {kernel.seconds * 1000:.0f} ms"))
                return kernel
    log.info("Kernel %s starts cold: %s", prepared.request.kernel_id, reason)
    return None


async def _claim(run: RunFolder, entry: Waiting, prepared: Prepared, wanted: Wish, engine: Engine) -> Kernel | None:
    """Take one kernel; None where somebody else was first, or it is no good."""
    gpu = granted(prepared, entry.gpus)
    if gpu is None or entry.container in asking_here | taken_here:
        return None
    body = prepared.body(_NOWHERE, gpu=gpu.request)
    env = dict(text.split("=", 1) for text in body["Env"] if "=" in text)
    request = prepared.request
    claim = {
        # What matters early is the same, and the kernel has made its own of some of it (PATH).
        "env": {name: text for name, text in env.items() if name not in entry.env or not matters_early(name)},
        "unset": [name for name in entry.env if name not in env],
        "cwd": prepared.cwd,
        "key": request.connection.key if request.connection else None,
    }
    waited = run
    asking_here.add(entry.container)
    end = engine.watch(entry.container)
    line = None
    try:
        line = await _ask(run, claim)
        if line is not None:
            taken_here.add(entry.container)
    finally:
        asking_here.discard(entry.container)
        if line is None and entry.container not in kept_here:
            engine.unwatch(entry.container)
    if line is None:
        return None
    try:
        await carried_out(entry.withdraw, run)
        await _limit(engine, entry, wanted.limits)
        if gpu.uuids:
            wanted_gpus = replace(_choice(prepared.config, entry), when_full="fail")
            leaser, uid = request.run or run, prepared.identity.host_uid
            gpu = await gpus.grant(prepared.gpu, wanted_gpus, engine, prepared.info, leaser, uid, unheard)
            if not set(gpu.uuids) <= set(entry.gpus):
                raise TfgpuError("It doesn't see the GPU that is free.", "")
            if await asyncio.to_thread(_others_alone, entry.gpus, leaser):
                raise TfgpuError("It sees a GPU that somebody has got exclusively just now.", "")
        run = await carried_out(_hand_over, run, prepared, entry)
        narrowed = list(gpu.uuids) if set(gpu.uuids) != set(entry.gpus) else []
        await line.send({"go": True, "gpus": narrowed})
        # The kernel closes when it has become what was claimed.
        await asyncio.wait_for(line.reader.read(), waiting.ANSWER_SECONDS)
    except BaseException as error:
        line.close()
        engine.unwatch(entry.container)
        await asyncio.shield(_discard(engine, entry.container, waited))
        if not isinstance(error, Exception):
            raise
        log.warning("A kernel that was ready could not be taken: %s", unexpected(error))
        return None
    line.close()
    seconds = time.monotonic() - prepared.began
    connection = request.connection or Connection(str(run.io), entry.key)
    mounts = prepared.mounts_with(run)
    return Kernel(entry.container, end, connection, run, prepared.identity, prepared.image, mounts, gpu, seconds)


async def _discard(engine: Engine, container: str, waited: RunFolder) -> None:
    """Remove a kernel that could not be taken, with its folder, if that hasn't another one's place already."""
    replaced = waited.path.is_symlink()
    await waiting.remove(engine, container, None if replaced else waited)
    if replaced:
        await asyncio.to_thread(additions.forget, waited.path.name)


def _hand_over(run: RunFolder, prepared: Prepared, entry: Waiting) -> RunFolder:
    """Make the run folder this process's, and that of the kernel which it follows."""
    request, who = prepared.request, prepared.identity
    run.take_over(lambda owner: True)
    if request.run is not None and request.connection is not None:
        connection = request.connection.container_file().encode()
        run.share(CONNECTION_FILE, connection, who.host_uid, who.host_gid)
        fresh, run = run, run.replace(request.run)
    else:
        fresh = run
    _give_packages(fresh, run, prepared)
    write_running(run, request, entry.container)
    return run


def _give_packages(fresh: RunFolder, run: RunFolder, prepared: Prepared) -> None:
    """Make the kernel's folder for packages the notebook's own, with what the notebook has installed before."""
    who, image = prepared.identity, identity(prepared.image.record)
    new, own = additions.folder(image, "", fresh.path.name, who.host_uid), prepared.additions(run)
    if new == own:
        return
    if not _has_files(own):
        shutil.rmtree(own, ignore_errors=True)
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.rename(own)
    else:
        additions.claim(image, prepared.request.notebook, fresh.path.name, who.host_uid, who.host_gid)


def _unfit(prepared: Prepared, entry: Waiting) -> str:
    """Why a waiting kernel is no good for this start; empty where it is."""
    came = ahead.came(prepared, entry.lacking)
    if came:
        return f"the modules imported ahead don't see {', '.join(came)}, which cells have installed"
    return _unfit_gpus(prepared, entry)


def _unfit_gpus(prepared: Prepared, entry: Waiting) -> str:
    """Why the GPUs that a waiting kernel sees can't be this start's; empty where they can.

    It has no lease on them, and hinders nobody: the lease is taken with the kernel, or others have it.
    """
    run, config, judged = prepared.request.run, prepared.config, prepared.gpu
    if judged.sample is None or not entry.gpus:
        return ""
    if _others_alone(entry.gpus, run):
        return "others have one of the GPUs for themselves"
    held = {holder.gpu for holder in lease.held_by(run.path)} if run else set()
    if held:
        return "" if held <= set(entry.gpus) else "the GPUs are others than the kernel had"
    try:
        seen = [unit for unit in units.units(judged.sample) if unit.uuid in entry.gpus]
        picking.pick(_choice(config, entry), seen, lease.holders(), len(lease.waiting()), judged.policy)
    except TfgpuError as error:
        return f"the GPUs can't be had: {error.message}"
    return ""


def seen_ahead(prepared: Prepared, judged: Judged) -> tuple[str, ...]:
    """Return the GPUs that a waiting kernel shall see: any that may be shared, else those that a start would get.

    Which of them are its own is said when it is taken; so none is among them that somebody has exclusively. Where the
    environment chooses among GPUs by number already, they must be the final ones.
    """
    if not _any_will_do(prepared) or judged.sample is None:
        return tuple(unit.uuid for unit in judged.likely)
    here = tuple(unit.uuid for unit in units.units(judged.sample))
    taken = _others_alone(here, None)
    return tuple(uuid for uuid in here if uuid not in taken)


def outdated(prepared: Prepared, entry: Waiting) -> bool:
    """Whether a waiting kernel sees a GPU that somebody has got exclusively since, and another would not."""
    return _any_will_do(prepared) and bool(_others_alone(entry.gpus, None))


def _any_will_do(prepared: Prepared) -> bool:
    config = prepared.config
    chooses = any(CUDA_CHOICE in env for env in (prepared.env, dict(config.env)))
    return config.gpu_sharing == "shared" and isinstance(config.gpus, int) and not chooses


def _others_alone(uuids: Collection[str], run: RunFolder | None) -> set[str]:
    """Return which GPUs are leased exclusively, and not to this run folder."""
    own = str(run.path) if run else ""
    alone = {holder.gpu for holder in lease.holders() if holder.sharing == "exclusive" and holder.run != own}
    return alone.intersection(uuids)


def _choice(config: KernelConfig, entry: Waiting) -> KernelConfig:
    """Return the settings by which GPUs are chosen among those that a waiting kernel sees."""
    if isinstance(config.gpus, int) and config.gpus < len(entry.gpus):
        return config
    return replace(config, gpus=entry.gpus)


def _packages_refusal(prepared: Prepared) -> str:
    """Why a waiting kernel can't have what the notebook's cells have installed; empty where it can."""
    request = prepared.request
    if not request.notebook:
        installed = request.run is not None and _has_files(prepared.additions(request.run))
        return "its cells have installed packages, and it has no notebook to keep them" if installed else ""
    for run in runfolder.existing():
        state = run.state()
        if state and state.notebook == request.notebook and state.kernel_id != request.kernel_id and run.owner_alive():
            return "the notebook has another kernel, which uses its packages"
    return ""


def _has_files(folder: Path) -> bool:
    return any(files for _, _, files in os.walk(folder))


async def _limit(engine: Engine, entry: Waiting, wanted: Mapping[str, int]) -> None:
    """Give a kernel its limits, if it has others: the engine takes its time for that."""
    if dict(entry.limits) != dict(wanted):
        await engine.update(entry.container, **wanted)


async def _ask(run: RunFolder, claim: Mapping[str, Any]) -> Line | None:
    answered = await waiting.connect(run, {"claim": claim})
    return answered[0] if answered else None


def granted(prepared: Prepared, uuids: tuple[str, ...]) -> Grant | None:
    """Return the grant of exactly these GPUs; None where they are not, or not all, here any more."""
    judged = prepared.gpu
    if judged.sample is None:
        return None if uuids else Grant(NO_GPU, cpu_because=judged.cpu_because)
    try:
        return gpus.granted(uuids, judged.sample, prepared.info, prepared.config.gpu_request) if uuids else None
    except (KeyError, TfgpuError):
        return None


def _parts(prepared: Prepared, engine: Engine, order: Mapping[str, Any], body: dict[str, Any]) -> dict[str, str]:
    """Hash what a container is made from, less what is set when it is taken, by what people call it."""
    host = body["HostConfig"]
    parts = {
        "image": [body.pop("Image"), body["Cmd"][0], hashlib.sha256(bootfile.archive()).hexdigest()],
        "user": [body.pop("User"), host.pop("GroupAdd")],
        "set of mounts": [
            [mount for mount in host.pop("Mounts") if mount["Target"] != additions.CONTAINER_FOLDER],
            [bind.identity for bind in prepared.mounts.binds],  # a folder made anew is another
        ],
        "network": [host.pop("NetworkMode"), body.pop("NetworkDisabled")],
        "environment": [text for text in body.pop("Env") if matters_early(text.partition("=")[0])],
        "request for GPUs": [prepared.config.gpus, prepared.config.gpu_request, prepared.gpu.sample is None],
        "set of packages": list(prepared.config.packages),
        "list of modules to import ahead": order,
        "engine": engine.address,
    }
    for name in ("Labels", "WorkingDir"):
        del body[name]
    parts["limit or setting"] = [body, dict(prepared.config.labels)]
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] for name, part in parts.items()
    }
