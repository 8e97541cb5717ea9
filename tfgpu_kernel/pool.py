"""Kernels that are finished before anybody asks for one: take, refill, drain.

Which one fits is asked by comparing what its container was made from with what a cold start would make now, so
nothing that a start decides can be forgotten here. The kernel itself decides who gets it (see
:mod:`tfgpu_kernel.boot.warm`); any process of the user may ask, but only a server keeps a pool.

    <run folder>/pool.json     what a waiting kernel is; there from when it waits until it is taken
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from . import additions, bootfile, cells, gpus, launches, lease, quiet, runfolder
from .boot.variables import matters_early
from .boot.warm import COLD_FILE, ORDER_FILE, SOCKET
from .connection import CONNECTION_FILE, Connection
from .engine.base import Engine, Exit
from .errors import TfgpuError
from .gpu.request import NO_GPU
from .gpus import Grant
from .image.facts import identity
from .launch import Kernel, Prepared, start, write_running
from .owner import Owner
from .progress import Report, Step, unheard
from .runfolder import RunFolder

log = logging.getLogger(__name__)

_RECORD: Final = "pool.json"
_NOWHERE: Final = RunFolder(Path("/nowhere"))
_ANSWER_SECONDS: Final = 5.0
"""A waiting kernel answers a claim within milliseconds; beyond this a cold start is as good."""
_SETTLE_SECONDS: Final = 40.0
"""How long a claim may take until the kernel itself gives up, and a little more."""
_WARM_UP_SECONDS: Final = 300.0
"""How long importing may take with whatever the others on the machine leave."""
_LOW_WEIGHT: Final = 2
"""Share of the processors while importing ahead, beside 1024 of whoever waits for a result."""
_WEIGHT: Final = 1024
_GUESSED_BYTES: Final = 600 * 2**20
"""What a kernel with TensorFlow is taken to weigh before one was weighed."""
_IDLE_SECONDS: Final = 3600.0
"""A kind of kernel that was not started for so long is kept ready no more."""
_FAILURES: Final = 3

# Docker can change these while a container runs, so they are set when it is taken.
_LIMITS: Final = ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")


@dataclass(frozen=True)
class Wish:
    """What a start wants of a waiting kernel; where that can't be had, why not."""

    parts: Mapping[str, str]
    """A hash of each thing that must be the same, by what the log calls it."""
    order: Mapping[str, Any]
    """What the kernel reads when it begins, see :mod:`tfgpu_kernel.boot.warm`."""
    refusal: str = ""


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

    def write(self, run: RunFolder) -> None:
        """Offer the kernel to everybody."""
        (run.path / _RECORD).write_text(json.dumps(asdict(self)))


def waiting(run: RunFolder) -> Waiting | None:
    """Return what waits in a run folder; None where nothing does."""
    try:
        record = json.loads((run.path / _RECORD).read_text())
        return Waiting(**{**record, "env": tuple(record["env"]), "gpus": tuple(record["gpus"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def wish(prepared: Prepared, engine: Engine) -> Wish:
    """Say what a waiting kernel must be like to serve this start. Reads the notebook; call it in a thread."""
    foreseen = cells.foresee(prepared.request.notebook)
    order = {"preload": list(prepared.config.preload), "preset": dict(foreseen.values)}
    refusal = ""
    if foreseen.unclear:
        refusal = f"the notebook sets {', '.join(sorted(foreseen.unclear))}, which acts on an import"
    refused = cold_variables(prepared.request.run, prepared.request.notebook) - set(foreseen.values)
    if refused:
        refusal = f"a cell set {', '.join(sorted(refused))}, which acts on an import"
    refusal = refusal or _packages_refusal(prepared)
    if not prepared.config.pool_size:
        refusal = "pool_size is 0"
    if prepared.gpu.sample is not None and prepared.config.gpu_sharing == "exclusive":
        refusal = "a kernel that waits holds no GPU for itself alone"
    return Wish(_parts(prepared, engine, order), order, refusal)


async def take(prepared: Prepared, wanted: Wish, engine: Engine, report: Report) -> Kernel | None:
    """Return a waiting kernel that is what a cold start would be; None where there is none.

    A claim that fails is no error: the kernel that failed is gone, and the caller starts a cold one.
    """
    reason = wanted.refusal or "none of this kind is ready"
    if not wanted.refusal:
        for run, entry in await asyncio.to_thread(_offered, engine):
            differences = [name for name, text in wanted.parts.items() if entry.parts.get(name) != text]
            if differences:
                if entry.kernel_name == prepared.request.kernel_name:
                    reason = f"the one that is ready has another {', another '.join(differences)}"
                continue
            held = (
                tuple(holder.gpu for holder in lease.held_by(prepared.request.run.path)) if prepared.request.run else ()
            )
            if held and set(held) != set(entry.gpus):
                reason = "the one that is ready sees another GPU than the kernel had"
                continue
            kernel = await _claim(run, entry, prepared, engine)
            if kernel is not None:
                report(Step("ready", f"A kernel was ready: taken in {kernel.seconds * 1000:.0f} ms"))
                return kernel
    log.info("Kernel %s starts cold: %s", prepared.request.kernel_id, reason)
    return None


async def _claim(run: RunFolder, entry: Waiting, prepared: Prepared, engine: Engine) -> Kernel | None:
    """Take one kernel; None where somebody else was first, or it is no good."""
    gpu = _granted(prepared, entry.gpus)
    if gpu is None:
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
    end = engine.watch(entry.container)
    _taken.add(entry.container)
    line = await _ask(run, claim)
    if line is None:
        _taken.discard(entry.container)
        if _keeper is None or not _keeper.has(entry.container):
            engine.unwatch(entry.container)
        return None
    try:
        await asyncio.to_thread((run.path / _RECORD).unlink)
        limits = {name: body["HostConfig"][name] for name in _LIMITS} | {"CpuShares": _WEIGHT}
        settling = asyncio.ensure_future(engine.update(entry.container, **limits))
        if gpu.uuids:
            same = replace(prepared.config, gpus=gpu.uuids, when_full="fail")
            leaser, uid = request.run or run, prepared.identity.host_uid
            gpu = await gpus.grant(prepared.gpu, same, engine, prepared.info, leaser, uid, unheard)
        run = await asyncio.to_thread(_hand_over, run, prepared, entry)
        await settling
        await line.send({"go": True})
        # The kernel closes when it has become what was claimed.
        await asyncio.wait_for(line.reader.read(), _ANSWER_SECONDS)
    except BaseException as error:
        line.close()
        engine.unwatch(entry.container)
        await asyncio.shield(_away(engine, entry.container, run if request.run is None else None))
        if isinstance(error, TfgpuError | OSError | TimeoutError):
            log.warning("A kernel that was ready could not be taken: %s", error)
            return None
        raise
    line.close()
    seconds = time.monotonic() - prepared.began
    connection = request.connection or Connection(str(run.io), entry.key)
    mounts = prepared.mounts_with(run)
    return Kernel(entry.container, end, connection, run, prepared.identity, prepared.image, mounts, gpu, seconds)


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


class _Line:
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


async def _connect(run: RunFolder, message: Mapping[str, Any]) -> tuple[_Line, dict[str, Any]] | None:
    """Connect to a waiting kernel and ask; None where it is taken or gone."""
    line = None
    try:
        line = _Line(*await asyncio.open_unix_connection(str(run.io / SOCKET)))
        await line.send(message)
        answer = await asyncio.wait_for(line.receive(), _ANSWER_SECONDS)
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


async def _ask(run: RunFolder, claim: Mapping[str, Any]) -> _Line | None:
    answered = await _connect(run, {"claim": claim})
    return answered[0] if answered else None


async def _away(engine: Engine, container: str, run: RunFolder | None) -> None:
    """Remove a container and, where it has one of its own, its run folder."""
    with contextlib.suppress(TfgpuError):  # the next sweep finds it
        await engine.remove(container)
    if run is not None:
        await asyncio.to_thread(run.remove)


def _granted(prepared: Prepared, uuids: tuple[str, ...]) -> Grant | None:
    """Return the grant of exactly these GPUs; None where they are not, or not all, here any more."""
    judged = prepared.gpu
    if judged.sample is None:
        return None if uuids else Grant(NO_GPU, cpu_because=judged.cpu_because)
    try:
        return gpus.granted(uuids, judged.sample, prepared.info, prepared.config.gpu_request) if uuids else None
    except (KeyError, TfgpuError):
        return None


def _offered(engine: Engine) -> list[tuple[RunFolder, Waiting]]:
    """Return what waits on this engine, and belongs to a process that lives."""
    found = ((run, waiting(run)) for run in runfolder.existing())
    return [(run, entry) for run, entry in found if entry and entry.engine == engine.address and run.owner_alive()]


def _parts(prepared: Prepared, engine: Engine, order: Mapping[str, Any]) -> dict[str, str]:
    """Hash what a container is made from, less what is set when it is taken, by what people call it."""
    body = prepared.body(_NOWHERE)
    host = body["HostConfig"]
    parts = {
        "image": [body.pop("Image"), body["Cmd"][0], hashlib.sha256(bootfile.archive()).hexdigest()],
        "user": [body.pop("User"), host.pop("GroupAdd")],
        "set of mounts": [mount for mount in host.pop("Mounts") if mount["Target"] != additions.CONTAINER_FOLDER],
        "network": [host.pop("NetworkMode"), body.pop("NetworkDisabled")],
        "environment": [text for text in body.pop("Env") if matters_early(text.partition("=")[0])],
        "request for GPUs": [prepared.config.gpus, prepared.config.gpu_request, prepared.gpu.sample is None],
        "set of packages": list(prepared.config.packages),
        "list of modules to import ahead": order,
        "engine": engine.address,
    }
    for name in ("Labels", "WorkingDir"):
        del body[name]
    for name in _LIMITS:
        del host[name]
    parts["limit or setting"] = [body, dict(prepared.config.labels)]
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16] for name, part in parts.items()
    }


# -- kernels that start cold -------------------------------------------------------------------------

_cold: dict[str, set[str]] = {}


def cold_variables(run: RunFolder | None, notebook: str) -> set[str]:
    """Return the variables that cells of this kernel, or of this notebook before, set too late."""
    found = set(_cold.get(notebook, ()))
    if run is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found |= set((run.io / COLD_FILE).read_text()[:4096].split())
    if found and notebook:
        _cold[notebook] = found
    return found


# -- the server's side -------------------------------------------------------------------------------

_taken: set[str] = set()
"""Containers that this process has claimed."""
_keeper: Pool | None = None


def note(prepared: Prepared, wanted: Wish, engine: Engine) -> None:
    """Tell the process's pool, if it keeps one, what was started: such kernels are wanted again."""
    if _keeper is not None and not wanted.refusal:
        _keeper.note(prepared, wanted, engine)


@dataclass
class _Kind:
    """One kind of kernel that was started, and what is known of it."""

    prepared: Prepared
    wish: Wish
    engine: Engine
    used: float
    memory_bytes: int = _GUESSED_BYTES
    failures: int = 0


@dataclass
class _Kept:
    """A waiting kernel that this process made and holds."""

    run: RunFolder
    waiting: Waiting
    engine: Engine
    kind: tuple[str, ...]
    end: Future[Exit]
    line: _Line
    watcher: asyncio.Task[None] | None = None


class Pool:
    """Keeps kernels ready for one server; belongs to the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_event_loop()
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._kept: dict[str, _Kept] = {}
        self._wanted = asyncio.Event()
        self._refilling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen to what is started."""
        global _keeper
        _keeper = self
        atexit.register(self._last_resort)

    async def stop(self) -> None:
        """Keep nothing any more, and remove what waits."""
        global _keeper
        if _keeper is self:
            _keeper = None
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
        await asyncio.gather(*(self._drain(kept) for kept in list(self._kept.values())))
        atexit.unregister(self._last_resort)

    def has(self, container: str) -> bool:
        """Whether this pool holds a container."""
        return container in self._kept

    def state(self) -> Sequence[Waiting]:
        """Return what waits now, oldest first."""
        return [kept.waiting for kept in self._kept.values()]

    def note(self, prepared: Prepared, wanted: Wish, engine: Engine) -> None:
        """Keep kernels of this kind ready from now on. Any thread may call."""
        self._loop.call_soon_threadsafe(self._note, prepared, wanted, engine)

    def _note(self, prepared: Prepared, wanted: Wish, engine: Engine) -> None:
        if not prepared.config.pool_size:
            return
        request = replace(prepared.request, kernel_id="", notebook="", run=None, connection=None)
        prepared = replace(prepared, request=request)
        name = tuple(sorted(wanted.parts.values()))
        known = self._kinds.get(name)
        self._kinds[name] = _Kind(prepared, wanted, engine, time.monotonic())
        if known is not None:
            self._kinds[name].memory_bytes = known.memory_bytes
        self._wanted.set()
        if self._refilling is None or self._refilling.done():
            self._refilling = self._loop.create_task(self._refill())

    async def _refill(self) -> None:
        """Make what is missing, one after another, whenever the machine is quiet."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._forget_old_kinds()
            while (name := self._missing()) is not None:
                await quiet.wait(lambda: bool(launches.current()))
                if name in self._kinds:
                    await self._make(name, self._kinds[name])

    def _missing(self) -> tuple[str, ...] | None:
        """Return a kind of which fewer wait than wanted, the one used last first."""
        for name, kind in sorted(self._kinds.items(), key=lambda item: -item[1].used):
            config = kind.prepared.config
            have = sum(1 for kept in self._kept.values() if kept.kind == name)
            held = sum(kept.waiting.memory_bytes for kept in self._kept.values())
            fits = held + kind.memory_bytes <= config.pool_memory and kind.memory_bytes * 2 <= quiet.free_bytes()
            if have < config.pool_size and kind.failures < _FAILURES and fits:
                return name
        return None

    async def _forget_old_kinds(self) -> None:
        """Drain kinds that another has followed (same kernel and image, something else changed), or nobody uses."""
        latest: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for name, kind in sorted(self._kinds.items(), key=lambda item: item[1].used):
            preset = json.dumps(kind.wish.order["preset"])
            latest[kind.prepared.request.kernel_name, kind.prepared.config.image, preset] = name
        for name, kind in list(self._kinds.items()):
            if name not in latest.values() or time.monotonic() - kind.used > _IDLE_SECONDS:
                del self._kinds[name]
        for kept in list(self._kept.values()):
            if kept.kind not in self._kinds:
                log.info("The ready kernel %s is not wanted any more", kept.waiting.container[:12])
                await self._drain(kept)

    async def _make(self, name: tuple[str, ...], kind: _Kind) -> None:
        """Start one kernel that waits; a failure is told, and after some no more are tried."""
        config = replace(kind.prepared.config, launch_timeout=_WARM_UP_SECONDS)
        prepared = replace(kind.prepared, config=config, began=time.monotonic())
        grant = None
        try:
            judged = await gpus.judge(config, prepared.gpu.policy, prepared.info, unheard)
            grant = _granted(prepared, tuple(unit.uuid for unit in judged.likely))
        except TfgpuError as error:
            log.info("No kernel is made ready ahead: %s", error.message)
        if grant is None:
            kind.failures += 1
            return
        env: list[str] = []

        def shape(body: dict[str, Any], run: RunFolder) -> dict[str, Any]:
            who = prepared.identity
            run.share(ORDER_FILE, json.dumps(kind.wish.order).encode(), who.host_uid, who.host_gid)
            early = {name: text for name, text in prepared.env.items() if matters_early(name)}
            body = prepared.body(run, early, gpu=grant.request)
            env.extend(text.partition("=")[0] for text in body["Env"])
            body["WorkingDir"] = prepared.mounts.binds[0].target
            body["HostConfig"]["CpuShares"] = _LOW_WEIGHT
            return body

        try:
            kernel = await start(prepared, kind.engine, unheard, shape=shape, granted=grant)
        except TfgpuError as error:
            kind.failures += 1
            log.warning("No kernel could be made ready ahead (try %d): %s", kind.failures, error)
            return
        answered = await _connect(kernel.run, {"hold": True})
        if answered is None:
            kind.failures += 1
            kind.engine.unwatch(kernel.container)
            await _away(kind.engine, kernel.container, kernel.run)
            return
        line, answer = answered
        kind.failures, kind.memory_bytes = 0, int(answer["memory"])
        record = Waiting(
            kernel_name=prepared.request.kernel_name,
            image=config.image,
            parts=kind.wish.parts,
            engine=kind.engine.address,
            container=kernel.container,
            key=kernel.connection.key,
            gpus=grant.uuids,
            env=tuple(env),
            since=time.time(),
            memory_bytes=kind.memory_bytes,
        )
        kept = _Kept(kernel.run, record, kind.engine, name, kernel.end, line)
        self._kept[kernel.container] = kept
        kept.watcher = self._loop.create_task(self._follow(kept))
        await asyncio.to_thread(record.write, kernel.run)
        log.info("A kernel of %s is ready (%s)", config.image, ", ".join(answer["preloaded"]) or "nothing imported")

    async def _follow(self, kept: _Kept) -> None:
        """Wait until a kernel is taken or dead; see that half a claim leaves nothing, and want another."""
        await kept.line.reader.read()
        kept.line.close()
        self._kept.pop(kept.waiting.container, None)
        self._wanted.set()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while kept.waiting.container not in _taken and time.monotonic() < deadline:
            state = await asyncio.to_thread(kept.run.state)
            if state is not None and await asyncio.to_thread(kept.run.owner_alive):
                kept.engine.unwatch(kept.waiting.container)
                return  # another process has it
            owner = await asyncio.to_thread(kept.run.owner)
            if kept.end.done() and (owner is None or owner == Owner.current() or not owner.alive):
                kept.engine.unwatch(kept.waiting.container)
                await _away(kept.engine, kept.waiting.container, kept.run)
                return
            await asyncio.sleep(0.2)

    async def _drain(self, kept: _Kept) -> None:
        """Take a kernel like anybody else would, but only to end it."""
        if kept.watcher is not None:
            kept.watcher.cancel()
            await asyncio.gather(kept.watcher, return_exceptions=True)
        self._kept.pop(kept.waiting.container, None)
        answered = await _connect(kept.run, {"claim": {"env": {}, "unset": [], "cwd": "/", "key": None}})
        kept.line.close()
        kept.engine.unwatch(kept.waiting.container)
        if answered is None and not kept.end.done():
            return  # somebody took it
        if answered is not None:
            answered[0].close()
        await _away(kept.engine, kept.waiting.container, kept.run)

    def _last_resort(self) -> None:
        """Remove what waits where nobody has stopped the pool in good order; runs at the interpreter's end."""
        for kept in list(self._kept.values()):
            if waiting(kept.run) is not None:
                kept.engine.remove_now(kept.waiting.container)
                kept.run.remove()
