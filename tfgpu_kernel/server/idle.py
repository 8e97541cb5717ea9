"""GPUs come free: a kernel that holds one and does nothing is warned of, and later shut down.

Off unless a kernel's setting ``gpu_idle_timeout`` says so. What idle means is Jupyter's own word, as for its culling:
no cell runs, and none has printed. docs/decisions says which kernels count as holding a GPU.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from .. import obituaries
from ..attribution import Usage
from ..errors import GpuFreed
from ..obituaries import Obituary
from .roster import Resident, Roster
from .sampler import Moment, Sampler

LOOK_SECONDS: Final = 5.0
"""The longest pause between two looks: how late a kernel that fell idle long ago can be found."""
LEAST_SECONDS: Final = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hold:
    """What a kernel has of the GPUs.

    :param places: the GPUs' numbers.
    :param used_bytes: its memory there; None where the driver doesn't tell.
    :param working: whether a GPU that only this kernel is on computes right now, whatever Jupyter says.
    """

    places: tuple[int, ...]
    used_bytes: int | None
    working: bool


@dataclass(frozen=True)
class IdleWarning:
    """A kernel that will be shut down. ``ends`` and ``idle_since`` in seconds since the epoch."""

    kernel_id: str
    kernel_name: str
    path: str
    gpus: tuple[int, ...]
    used_bytes: int | None
    idle_since: float
    ends: float


def hold(resident: Resident, moment: Moment) -> Hold | None:
    """Return what a kernel holds, or None where ending it would free nothing.

    A shared GPU on which a kernel has put nothing serves others as well as if the kernel weren't there. One of its
    own is kept from others in any case. What can't be seen counts as held.
    """
    if not resident.gpus:
        return None
    sample = moment.sample
    places = {uuid: gpu.index for gpu in (sample.gpus if sample else ())
              for uuid in (gpu.uuid, *(mig.uuid for mig in gpu.mig_devices))}  # fmt: skip
    used: int | None = 0
    working = False
    for uuid in resident.gpus:
        usage = moment.usages.get(uuid) if moment.sees_processes else None
        share = next((one for one in usage.shares if one.container == resident.container), None) if usage else None
        if usage is None:
            used = None
        elif share is not None:
            used = None if used is None or share.used_bytes is None else used + share.used_bytes
            working = working or (_alone(usage) and _computes(uuid, moment))
    if used == 0 and not resident.exclusive:
        return None
    return Hold(tuple(sorted({places[uuid] for uuid in resident.gpus if uuid in places})), used, working)


def _alone(usage: Usage) -> bool:
    return len(usage.shares) == 1 and not usage.others


def _computes(uuid: str, moment: Moment) -> bool:
    return any(gpu.uuid == uuid and gpu.utilisation for gpu in (moment.sample.gpus if moment.sample else ()))


class Shutdown(Protocol):
    """What of jupyter_server's kernel manager is used."""

    async def shutdown_kernel(self, kernel_id: str) -> None:
        """End a kernel for good."""
        ...


class Idle:
    """Watches a server's kernels.

    :param changed: called on the loop with the id of a kernel that is warned of, or is so no more.
    """

    def __init__(self, roster: Roster, sampler: Sampler, kernels: Shutdown, changed: Callable[[str], None]) -> None:
        self._roster = roster
        self._sampler = sampler
        self._kernels = kernels
        self._changed = changed
        self._warned: dict[str, IdleWarning] = {}
        self._worked: dict[str, float] = {}
        """When a kernel was last kept by its user, or seen to compute."""
        self._task: asyncio.Task[None] | None = None

    def warnings(self) -> list[IdleWarning]:
        """Return what is warned of, next to end first."""
        return sorted(self._warned.values(), key=lambda warning: warning.ends)

    def keep(self, kernel_id: str) -> bool:
        """Let a kernel be idle for the whole time anew; False where none of this id is warned of."""
        if kernel_id not in self._warned:
            return False
        self._worked[kernel_id] = time.time()
        self._withdraw(kernel_id)
        return True

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            pause = LOOK_SECONDS
            try:
                pause = await self.look(time.time())
            except Exception:
                log.exception("Idle kernels could not be looked for")
            await asyncio.sleep(min(LOOK_SECONDS, max(LEAST_SECONDS, pause)))

    async def look(self, now: float) -> float:
        """Warn of the kernels whose time has come, end one whose time is over; return the seconds to the next.

        Ending a kernel takes seconds, in which the others may have worked: they are judged anew, at the next look.
        """
        some = await self._roster.residents() if self._roster.frees_gpus() else []
        residents = [one for one in some if one.idle_timeout > 0]
        for gone in self._warned.keys() - {resident.kernel_id for resident in residents}:
            self._withdraw(gone)
        for gone in self._worked.keys() - {resident.kernel_id for resident in residents}:
            del self._worked[gone]
        if not residents:
            return LOOK_SECONDS
        moment = await self._sampler.latest()
        held = {one.kernel_id: hold(one, moment) for one in residents}
        lefts = [self._judge(one, held[one.kernel_id], now) for one in residents]
        for resident, left in zip(residents, lefts, strict=True):
            if left == 0 and await self._end(resident, held[resident.kernel_id], now):
                return 0.0
        return min((left for left in lefts if left), default=LOOK_SECONDS)

    def _judge(self, resident: Resident, held: Hold | None, now: float) -> float:
        """Return the seconds until this kernel must be looked at again; 0 where its time is over."""
        kernel_id = resident.kernel_id
        if held is not None and held.working:
            self._worked[kernel_id] = now
        if held is None or held.working or resident.idle_seconds is None:
            self._withdraw(kernel_id)
            return LOOK_SECONDS
        since = max(now - resident.idle_seconds, self._worked.get(kernel_id, 0.0))
        before = self._warned.get(kernel_id)
        if before is not None and before.idle_since < since - 1:
            self._withdraw(kernel_id)  # it has worked meanwhile
            before = None
        if before is None:
            warn_at = since + resident.idle_timeout - resident.idle_warning
            if now < warn_at:
                return warn_at - now
            # Nobody is shut down without having been warned for the whole time.
            ends = max(since + resident.idle_timeout, now + resident.idle_warning)
            self._warned[kernel_id] = IdleWarning(
                kernel_id, resident.kernel_name, resident.path, held.places, held.used_bytes, since, ends
            )
            log.info("Kernel %s holds a GPU and is idle; it ends in %.0f s", kernel_id, ends - now)
            self._changed(kernel_id)
            return ends - now
        return max(0.0, before.ends - now)

    async def _end(self, resident: Resident, held: Hold | None, now: float) -> bool:
        """End a kernel, unless it has worked or was kept since it was judged; return whether it was ended."""
        kernel_id = resident.kernel_id
        warned, still = self._warned.get(kernel_id), self._roster.idle_seconds(kernel_id)
        if held is None or warned is None or still is None or still < (resident.idle_seconds or 0.0):
            return False
        account = freed(held, now - warned.idle_since)
        log.warning("Kernel %s: %s", kernel_id, account.message)
        try:
            # Cancelled in the middle, jupyter_client would take it for under way for ever, and the server not end.
            await asyncio.shield(self._kernels.shutdown_kernel(kernel_id))
        except Exception:  # whatever it is, the others' GPUs come free
            log.exception("Kernel %s could not be shut down; it is tried again", kernel_id)
            return False
        self._withdraw(kernel_id)
        obituaries.publish(Obituary(kernel_id, resident.kernel_name, resident.path, account))
        return True

    def _withdraw(self, kernel_id: str) -> None:
        if self._warned.pop(kernel_id, None) is not None:
            self._changed(kernel_id)


def freed(held: Hold, seconds: float) -> GpuFreed:
    """Return why a kernel was shut down."""
    where = " and ".join(f"GPU {place}" for place in held.places) or "its GPU"
    memory = f" ({held.used_bytes / 2**30:.1f} GiB)" if held.used_bytes else ""
    return GpuFreed(
        f"The kernel was shut down, because it held {where}{memory} and had done nothing for {duration(seconds)} "
        "(gpu_idle_timeout).",
        "run the notebook's cells again; gpu_idle_timeout says how long a kernel may be idle, 0 for ever.",
    )


def duration(seconds: float) -> str:
    """Return a time in words, as exact as its length deserves."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
