"""Why a kernel died that nobody had asked to end: found out from its container, and told to all who listen."""

from __future__ import annotations

import asyncio
import time

from . import obituaries
from .deaths import explain
from .engine.base import Engine, Exit
from .errors import TfgpuError
from .launch import LOG_LINES, Kernel


async def cause(kernel: Kernel, end: Exit, memory: int | None, engine: Engine) -> TfgpuError:
    """Return why a kernel died, by its exit and the last lines of its log.

    :param memory: the limit in bytes that its container had; None for none.
    """
    try:
        text = await engine.logs(kernel.container, LOG_LINES)
    except TfgpuError:
        text = ""
    return explain(end, text, image=kernel.image.requested, memory=memory, gpus=bool(kernel.gpu.uuids))


async def of_container(container: str, image: str, gpus: bool, engine: Engine) -> TfgpuError | None:
    """Return why a kernel ended, of which only the container is left; None where that runs, or tells nothing."""
    try:
        end = await engine.exit_status(container)
        text = await engine.logs(container, LOG_LINES)
    except TfgpuError:
        return None
    return explain(end, text, image=image, memory=None, gpus=gpus) if end is not None else None


async def tell(kernel: Kernel, kernel_id: str, account: TfgpuError) -> None:
    """Note in the kernel's state file why it died, and publish it."""
    await asyncio.to_thread(kernel.run.change_state, state="ended", ended=time.time(), death=account.message)
    state = kernel.run.state()
    obituaries.publish(
        obituaries.Obituary(kernel_id, state.kernel_name if state else "", state.notebook if state else "", account)
    )
