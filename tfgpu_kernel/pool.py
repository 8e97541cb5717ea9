"""Keeps kernels ready for one server, and fills up what was taken whenever the machine is quiet.

A kind of kernel that was started is wanted again: one like it is started ahead, imports what takes long, and waits
(:mod:`tfgpu_kernel.waiting`) until somebody claims it (:mod:`tfgpu_kernel.claim`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final

from . import gpus, launches, quiet, waiting
from .boot.variables import matters_early
from .boot.warm import ORDER_FILE
from .claim import Wish, asking_here, granted, kept_here, outdated, seen_ahead, taken_here
from .engine.base import Engine, Exit
from .errors import TfgpuError
from .launch import Prepared, start
from .owner import Owner
from .progress import unheard
from .runfolder import RunFolder
from .threads import carried_out
from .waiting import Line, Waiting

log = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 40.0
"""How long a claim may take until the kernel itself gives up, and a little more."""
_WARM_UP_SECONDS: Final = 300.0
"""How long importing may take with whatever the others on the machine leave."""
_LOW_WEIGHT: Final = 2
_FAIR_WEIGHT: Final = 256
_WEIGHT: Final = 1024
"""Shares of the processors while importing ahead: beside a start, and otherwise; and of whoever waits for a result."""
_BESIDE_SECONDS: Final = 5.0
"""So long after a start its first cells are taken to run."""
_MODEST_SECONDS: Final = 20.0
"""How long the least share is borne: on a machine that is always busy nothing would become ready with it."""
_LOOK_SECONDS: Final = 0.5
_USUAL_WEIGHT: Final = 100
_USUAL_AS_SHARES: Final = 2598
"""What a container has under cgroup v2 unless told otherwise, and the shares that give it where 1024 give less: older
runtimes map the one range to the other in a straight line."""
_UNDO_SECONDS: Final = 10.0
_GUESSED_BYTES: Final = 600 * 2**20
"""What a kernel with TensorFlow is taken to weigh before one was weighed."""
_IDLE_SECONDS: Final = 3600.0
"""A kind of kernel that was not started for so long is kept ready no more."""
_FAILURES: Final = 3

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
    line: Line
    watcher: asyncio.Task[None] | None = None


class Pool:
    """Keeps kernels ready for one server; belongs to the event loop that it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_event_loop()
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._kept: dict[str, _Kept] = {}
        self._wanted = asyncio.Event()
        self._refilling: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopped = False

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
        self._stopped = True
        while self._refilling is not None and not self._refilling.done():
            # Once may not do: before Python 3.12 wait_for loses a cancellation that comes with its result.
            self._refilling.cancel()
            # A second one would break off the removal of what the first broke off, which takes its time.
            await asyncio.wait({self._refilling}, timeout=_UNDO_SECONDS)
        await asyncio.gather(*(self._drain(kept) for kept in list(self._kept.values())))
        if self._watchers:  # of kernels that are being taken at this moment: half a claim leaves nothing
            await asyncio.wait(self._watchers, timeout=_UNDO_SECONDS)
        atexit.unregister(self._last_resort)

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
        while not self._stopped:
            await self._wanted.wait()
            self._wanted.clear()
            await self._forget_old_kinds()
            while not self._stopped and (name := self._missing()) is not None:
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
        """Drain kinds that another has followed (same kernel and image, something else changed), or nobody uses.

        So are kernels that see a GPU which somebody has got exclusively since.
        """
        latest: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for name, each in sorted(self._kinds.items(), key=lambda item: item[1].used):
            preset = json.dumps(each.wish.order["preset"])
            latest[each.prepared.request.kernel_name, each.prepared.config.image, preset] = name
        for name, each in list(self._kinds.items()):
            if name not in latest.values() or time.monotonic() - each.used > _IDLE_SECONDS:
                del self._kinds[name]
        for kept in list(self._kept.values()):
            kind = self._kinds.get(kept.kind)
            if kind is None or await asyncio.to_thread(outdated, kind.prepared, kept.waiting):
                log.info("The ready kernel %s is not wanted any more", kept.waiting.container[:12])
                await self._drain(kept)

    async def _make(self, name: tuple[str, ...], kind: _Kind) -> None:
        """Start one kernel that waits; a failure is told, and after some no more are tried."""
        config = replace(kind.prepared.config, launch_timeout=_WARM_UP_SECONDS)
        prepared = replace(kind.prepared, config=config, began=time.monotonic())
        grant = None
        try:
            judged = await gpus.judge(config, prepared.gpu.policy, prepared.info, unheard)
            grant = granted(prepared, seen_ahead(prepared, judged))
        except TfgpuError as error:
            log.info("No kernel is made ready ahead: %s", error.message)
        if grant is None:
            kind.failures += 1
            return
        env: list[str] = []
        runs: list[RunFolder] = []

        def shape(body: dict[str, Any], run: RunFolder) -> dict[str, Any]:
            who = prepared.identity
            runs.append(run)
            run.share(ORDER_FILE, json.dumps(kind.wish.order).encode(), who.host_uid, who.host_gid)
            early = {name: text for name, text in prepared.env.items() if matters_early(name)}
            body = kind.prepared.body(run, early, gpu=grant.request)
            env.extend(text.partition("=")[0] for text in body["Env"])
            body["WorkingDir"] = prepared.mounts.binds[0].target
            body["HostConfig"]["CpuShares"] = _LOW_WEIGHT
            return body

        over = asyncio.Event()
        weigher = self._loop.create_task(self._weigh(kind.engine, runs, over))
        kernel = None
        try:
            kernel = await start(prepared, kind.engine, unheard, shape=shape, granted=grant)
        except (TfgpuError, OSError) as error:
            kind.failures += 1
            log.warning("No kernel could be made ready ahead (try %d): %s", kind.failures, error)
            return
        finally:
            over.set()
            if kernel is None:  # else below, where a cancellation meanwhile removes it
                await asyncio.wait({weigher})
        held, useful = None, False
        try:
            await asyncio.wait({weigher})  # no call of its may come after the next
            # An idle kernel takes none of the processors; so its share is the usual one before it is claimed.
            await kind.engine.update(kernel.container, CpuShares=_WEIGHT)
            held = await waiting.connect(kernel.run, {"hold": True})
            if held is not None and (held[1]["weight"] or _USUAL_WEIGHT) < _USUAL_WEIGHT:
                await kind.engine.update(kernel.container, CpuShares=_USUAL_AS_SHARES)
            useful = held is not None
        except TfgpuError as error:
            log.warning("The kernel that was made ready ahead is of no use: %s", error)
        finally:
            if not useful:  # it failed, or the pool is being stopped
                kind.failures += 1
                if held is not None:
                    held[0].close()
                kind.engine.unwatch(kernel.container)
                await asyncio.shield(waiting.remove(kind.engine, kernel.container, kernel.run))
        if held is None or not useful:
            return
        line, answer = held
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
            limits=kind.wish.limits,
            lacking=tuple(answer["lacking"]),
        )
        kept = _Kept(kernel.run, record, kind.engine, name, kernel.end, line)
        self._kept[kernel.container] = kept
        kept_here.add(kernel.container)
        kept.watcher = self._watch(self._follow(kept))
        await carried_out(record.write, kernel.run)
        log.info("A kernel of %s is ready (%s)", config.image, ", ".join(answer["preloaded"]) or "nothing imported")

    async def _weigh(self, engine: Engine, runs: Sequence[RunFolder], over: asyncio.Event) -> None:
        """Let a kernel that is being made have the least share beside a start, and a small one otherwise."""
        began, weight = time.monotonic(), _LOW_WEIGHT
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(over.wait(), _LOOK_SECONDS)
            if over.is_set():
                return
            now = time.monotonic()
            last = max((kind.used for kind in self._kinds.values()), default=0.0)
            beside = bool(launches.current()) or now - last < _BESIDE_SECONDS
            fit = _LOW_WEIGHT if beside and now - began < _MODEST_SECONDS else _FAIR_WEIGHT
            if fit != weight and runs:
                with contextlib.suppress(TfgpuError):  # it may not be there yet
                    await engine.update(f"tfgpu-{runs[0].path.name}", CpuShares=fit)
                    weight = fit

    async def _follow(self, kept: _Kept) -> None:
        """Wait until a kernel is taken or dead, and want another."""
        await kept.line.reader.read()
        kept.line.close()
        self._kept.pop(kept.waiting.container, None)
        self._wanted.set()
        await self._see_off(kept)

    async def _see_off(self, kept: _Kept) -> None:
        """Wait until a kernel that waits no more is somebody's, or has ended: half a claim leaves nothing."""
        container = kept.waiting.container
        deadline = time.monotonic() + _SETTLE_SECONDS
        try:
            while time.monotonic() < deadline:
                state = await asyncio.to_thread(kept.run.state)
                owner = await asyncio.to_thread(kept.run.owner)
                # Looked at last: a start of this process may have come between.
                if container in taken_here:
                    return
                if container not in asking_here:
                    if state is not None and owner is not None and owner.alive:
                        return  # another process has it
                    ended = kept.end.done() and not kept.end.cancelled()
                    if ended and (owner is None or owner == Owner.current() or not owner.alive):
                        await waiting.remove(kept.engine, container, kept.run)
                        return
                await asyncio.sleep(0.2)
        finally:
            kept_here.discard(container)
            if container not in taken_here | asking_here:
                kept.engine.unwatch(container)

    async def _drain(self, kept: _Kept) -> None:
        """Take a kernel like anybody else would, but only to end it."""
        container = kept.waiting.container
        if self._kept.pop(container, None) is None:
            return  # it waits no more, and is seen off
        if kept.watcher is not None:
            kept.watcher.cancel()
            await asyncio.gather(kept.watcher, return_exceptions=True)
        answered = await waiting.connect(kept.run, {"claim": {"env": {}, "unset": [], "cwd": "/", "key": None}})
        kept.line.close()
        if answered is not None:
            answered[0].close()
        elif not kept.end.done() and not waiting.unclaimed(kept.run):
            self._watch(self._see_off(kept))  # somebody was first
            return
        kept_here.discard(container)
        kept.engine.unwatch(container)
        await waiting.remove(kept.engine, container, kept.run)

    def _watch(self, watching: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(watching)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)
        return task

    def _last_resort(self) -> None:
        """Remove what waits where nobody has stopped the pool in good order; runs at the interpreter's end."""
        for kept in list(self._kept.values()):
            if waiting.read(kept.run) is not None:
                kept.engine.remove_now(kept.waiting.container)
                kept.run.remove()
