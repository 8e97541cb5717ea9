"""Why a kernel died that nobody had asked to end: found out from its container, and told to all who listen."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from . import obituaries
from .deaths import UNKNOWN, explain
from .engine.base import Engine, Exit
from .errors import TfgpuError
from .launch import LOG_LINES, Kernel
from .owner import Owner
from .runfolder import RunFolder

log = logging.getLogger(__name__)


async def cause(kernel: Kernel, end: Exit, memory: int | None, engine: Engine) -> TfgpuError:
    """Return why a kernel died, by its exit and the last lines of its log.

    :param memory: the limit in bytes that its container had; None for none.
    """
    try:
        text = await engine.logs(kernel.container, LOG_LINES)
    except TfgpuError:
        text = ""
    return explain(end, text, image=kernel.image.requested, memory=memory, gpus=bool(kernel.gpu.uuids))


async def of_container(
    container: str, image: str, gpus: bool, owner: Owner | None, engine: Engine
) -> TfgpuError | None:
    """Return why a kernel ended, of which only the container is left; None where that runs, or tells nothing.

    :param owner: the process that it belonged to, which was of this boot of the machine, or of one before.
    """
    try:
        end = await engine.exit_status(container)
        text = await engine.logs(container, LOG_LINES)
    except TfgpuError:
        return None
    if end is None:
        return None
    unwatched = replace(end, unseen=end.code == UNKNOWN)
    rebooted = owner is not None and owner.rebooted
    return explain(unwatched, text, image=image, memory=None, gpus=gpus, rebooted=rebooted)


def note(run: RunFolder, account: TfgpuError) -> None:
    """Note in a kernel's state file why it died; a disk that is full keeps nobody from hearing it otherwise."""
    try:
        run.change_state(state="ended", ended=time.time(), death=account.message)
    except TfgpuError as error:
        log.warning("Why a kernel died can't be noted: %s", error)


async def tell(kernel: Kernel, kernel_id: str, account: TfgpuError) -> None:
    """Note in the kernel's state file why it died, and publish it."""
    await asyncio.to_thread(note, kernel.run, account)
    state = kernel.run.state()
    obituaries.publish(
        obituaries.Obituary(kernel_id, state.kernel_name if state else "", state.notebook if state else "", account)
    )
