"""A container for one piece of work: it goes with the work, also where that is cancelled while it is being made."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..errors import EngineNotAnswering, TfgpuError
from .base import Engine

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def passing(engine: Engine, body: Mapping[str, Any]) -> AsyncIterator[str]:
    """Make a container and give its id; remove it at the block's end, however that comes.

    After success nobody waits for the removal, which takes seconds where much was installed.

    :raises TfgpuError: where the engine refuses.
    """
    name = f"tfgpu-work-{secrets.token_hex(6)}"
    # A task of its own: cancelled in the middle, the engine still makes the container, and it must go.
    creating = asyncio.ensure_future(engine.create(body, name))
    try:
        yield await asyncio.shield(creating)
    except BaseException:
        await asyncio.shield(_undo(engine, creating, name))
        raise
    engine.discard(creating.result())


async def _undo(engine: Engine, creating: asyncio.Future[str], name: str) -> None:
    """Remove the container, when it is made; the block's own error is what the user must see."""
    try:
        made = await creating
    except EngineNotAnswering:
        engine.discard(name)  # an engine that was busy makes it all the same
        return
    except TfgpuError:
        return  # there is none
    try:
        await engine.remove(made)
    except TfgpuError:
        log.exception("The container %s is left behind until the next sweep", made[:12])
