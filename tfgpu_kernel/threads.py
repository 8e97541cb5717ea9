"""Work in threads whose traces must be removed where it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def carried_out(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something in a thread, and be over no sooner than it is.

    A thread can't be stopped. ``asyncio.to_thread`` leaves it behind when it is cancelled, and what it makes from then
    on is made beside whoever removes it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # again: it is on its way already
                await asyncio.wait({running})
        running.cancelled() or running.exception()  # looked at, or asyncio complains
        raise
