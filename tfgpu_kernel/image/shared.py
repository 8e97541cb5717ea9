"""Work that several launches want at once is done once, and they all hear of its progress.

It ends early only when the last of those who wait for it is cancelled. Within a process a task is shared;
between processes of a user a lock file sees to it that one works and the others find the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from platformdirs import user_cache_path

from ..progress import Report, Step

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.2
"""How often a lock that another process holds is tried: flock can't be awaited, and a thread that waits in
it can't be cancelled."""


@dataclass
class _Work:
    task: asyncio.Task[Any]
    reports: list[Report] = field(default_factory=list)
    last: Step | None = None


_Works = dict[str, _Work]
_works: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Works] = weakref.WeakKeyDictionary()


async def once(key: str, work: Callable[[Report], Awaitable[T]], report: Report) -> T:
    """Do ``work``, or join the one that is under way under the same key; return its result."""
    works = _works.setdefault(asyncio.get_running_loop(), {})
    if key not in works:
        works[key] = _begin(key, work, works)
    mine = works[key]
    mine.reports.append(report)
    if mine.last is not None:
        report(mine.last)
    try:
        result: T = await asyncio.shield(mine.task)
        return result
    finally:
        mine.reports.remove(report)
        if not mine.reports and not mine.task.done():
            works.pop(key, None)  # who comes now begins anew
            mine.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await mine.task


def _begin(key: str, work: Callable[[Report], Awaitable[T]], works: _Works) -> _Work:
    def tell(step: Step) -> None:
        made.last = step
        for report in tuple(made.reports):
            report(step)

    async def run() -> T:
        async with _alone(key, tell):
            return await work(tell)

    made = _Work(asyncio.ensure_future(run()))

    def forget(task: asyncio.Task[Any]) -> None:
        if works.get(key) is made:
            del works[key]
        if not task.cancelled():
            task.exception()  # each who waits has got it; none may be left to hear of it

    made.task.add_done_callback(forget)
    return made


@contextlib.asynccontextmanager
async def _alone(key: str, report: Report) -> AsyncIterator[None]:
    """Hold the lock of a piece of work against this user's other processes."""
    folder = user_cache_path("tfgpu-images") / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    report(Step("resolving", "Waiting for another program that is getting this image"))
                    told = True
                await asyncio.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(lock)
