"""Looks at GPUs and containers now and then, and remembers: one a server, whatever number of pages looks on.

It works only while somebody looks or a kernel lives. NVML and /proc are asked in threads, and an NVML that hangs
holds nobody up: who asks gets the last answer, and the cause once the driver's time is over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .. import procfs
from ..attribution import Usage, attribute_all, holders
from ..errors import TfgpuError
from ..gpu import nvml
from ..gpu.history import History, Point

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 0.5
"""Who asks gets a sample that is no older: with a page that asks every two seconds, a change shows within three."""
LOOKED_SECONDS: Final = 30.0
"""So long after the last look the sampler goes on, for a browser whose timers are slow in the background."""
FIRST_SECONDS: Final = 6.0
"""How long somebody who asks waits for the very first sample."""
PATIENCE_SECONDS: Final = 1.0
"""How long somebody who asks waits for a new sample where there is an old one."""
KEEP_SECONDS: Final = 60.0
"""How long NVML stays open: the longest that a GPU which was plugged in waits to be seen."""


@dataclass(frozen=True)
class Moment:
    """All that was seen at one time.

    :param time: seconds since the epoch.
    :param sample: what NVML told, or None.
    :param cause: why NVML told nothing, in words; empty where it did.
    :param usages: who holds each device's memory, by UUID of GPU and MIG device.
    :param memory: main memory by container id; one that can't be seen is missing.
    :param sees_processes: whether the engine's process ids are ours: not where this server runs in a container
        of its own, and then nobody's memory can be told apart.
    """

    time: float
    sample: nvml.Sample | None = None
    cause: str = ""
    usages: Mapping[str, Usage | None] = field(default_factory=dict)
    memory: Mapping[str, procfs.Memory] = field(default_factory=dict)
    sees_processes: bool = True


class Sampler:
    """Takes samples when asked, and by itself while that is of use.

    :param containers: returns the ids of the containers to tell apart; called on the loop.
    :param main_pid: asks the engine for the process id of a container; called once for each.
    :param changed: called on the loop when the devices, or who is on them, have changed.
    """

    def __init__(
        self,
        containers: Callable[[], set[str]],
        main_pid: Callable[[str], Awaitable[int]],
        changed: Callable[[], None] = lambda: None,
        every: float = EVERY_SECONDS,
    ) -> None:
        self.every = every
        self.history = History(every)
        self._containers = containers
        self._main_pid = main_pid
        self._changed = changed
        self._processes = procfs.Processes()
        self._folders: dict[str, Path | None] = {}
        self._unseen: set[str] = set()
        self._last: Moment | None = None
        self._last_taken = 0.0
        self._looked = 0.0
        self._taking: asyncio.Task[Moment] | None = None
        self._beating: asyncio.Task[None] | None = None

    async def latest(self) -> Moment:
        """Return what is so now, or was a moment ago, and go on sampling for a while."""
        self.wake()
        if self._last is not None and time.monotonic() - self._last_taken < FRESH_SECONDS:
            return self._last
        seconds = FIRST_SECONDS if self._last is None else PATIENCE_SECONDS
        try:
            return await asyncio.wait_for(asyncio.shield(self._take()), seconds)
        except asyncio.TimeoutError:
            # Slow is not broken: what was seen last holds until the driver's time is over, which is a moment, too.
            return self._last or Moment(time.time(), cause=f"the NVIDIA driver has not answered yet ({nvml.SLOW})")

    def wake(self) -> None:
        """Sample for a while: somebody looks, or a kernel starts. Call it on the loop."""
        self._looked = time.monotonic()
        if self._beating is None or self._beating.done():
            self._beating = asyncio.ensure_future(self._beat())

    @property
    def works(self) -> bool:
        """Whether samples are taken without being asked for."""
        return self._beating is not None and not self._beating.done()

    async def close(self) -> None:
        """Stop for good."""
        for task in (self._beating, self._taking):
            if task is not None:
                task.cancel()
                [end] = await asyncio.gather(task, return_exceptions=True)
                if isinstance(end, Exception):
                    log.error("The sampler had failed", exc_info=end)
        _release()

    async def _beat(self) -> None:
        while time.monotonic() - self._looked < LOOKED_SECONDS or self._containers():
            await asyncio.sleep(max(0.1, self._last_taken + self.every - time.monotonic()))
            if time.monotonic() - self._last_taken >= 0.9 * self.every:
                await asyncio.shield(self._take())
        _release()

    def _take(self) -> asyncio.Task[Moment]:
        if self._taking is None or self._taking.done():
            self._taking = asyncio.ensure_future(self._sample())
        return self._taking

    async def _sample(self) -> Moment:
        ours = self._containers()
        await self._find_folders(ours)
        asked = procfs.since_boot()
        sample, cause = None, ""
        try:
            sample = await nvml.sample_async(nvml.PATIENCE_SECONDS, KEEP_SECONDS)
        except nvml.NvmlError as error:
            cause = str(error)
        usages, memory = await asyncio.to_thread(self._read, sample, ours, asked)
        moment = Moment(
            time=time.time(),
            sample=sample,
            cause=cause,
            usages=usages,
            memory=memory,
            sees_processes=not self._unseen & ours,
        )
        self._note(moment)
        return moment

    async def _find_folders(self, ours: set[str]) -> None:
        """Find where each new container's figures are, and whether we see its processes at all."""
        for gone in self._folders.keys() - ours:
            del self._folders[gone]
        self._unseen &= ours
        for container in ours - self._folders.keys():
            try:
                pid = await self._main_pid(container)
                if not pid:
                    continue  # it has ended
                folder = await asyncio.to_thread(procfs.container_memory_folder, pid, container)
            except TfgpuError:
                continue  # gone, or the engine is busy: asked again next time
            except LookupError:
                self._unseen.add(container)
                folder = None
            self._folders[container] = folder

    def _read(
        self, sample: nvml.Sample | None, ours: set[str], asked: float
    ) -> tuple[dict[str, Usage | None], dict[str, procfs.Memory]]:
        """Read what /proc and the cgroups tell, and put it together; runs in a thread."""
        found = self._processes.look_up(holders(sample.gpus) if sample else ())
        usages = attribute_all(sample.gpus, found, ours, asked) if sample else {}
        memory = {
            container: figures
            for container, folder in list(self._folders.items())
            if container in ours and folder and (figures := procfs.memory(folder)) is not None
        }
        return usages, memory

    def _note(self, moment: Moment) -> None:
        before, self._last, self._last_taken = self._last, moment, time.monotonic()
        if moment.sample is not None:
            self.history.add(moment.time, dict(_points(moment.sample)))
        if before is not None and _gist(before) != _gist(moment):
            self._changed()


def _points(sample: nvml.Sample) -> list[tuple[str, Point]]:
    return [(gpu.uuid, Point(gpu.utilisation, gpu.memory.used_bytes if gpu.memory else None)) for gpu in sample.gpus]


def _gist(moment: Moment) -> object:
    """Return what changes rarely: which devices there are, which failed, and who is on them."""
    if moment.sample is None:
        return moment.cause
    residents = {(uuid, share.container) for uuid, usage in moment.usages.items() if usage for share in usage.shares}
    return ({gpu.uuid for gpu in moment.sample.gpus}, moment.sample.failed, residents)


def _release() -> None:
    # In a thread that ends with the process: an NVML that hangs would hold up the server's end.
    threading.Thread(target=nvml.release, name="tfgpu-nvml-release", daemon=True).start()
