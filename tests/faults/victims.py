"""Programs that are killed: each prepares, says ``now``, and does one thing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.live.driving import kernel
from tests.live.test_pool import keeping, one_ready
from tfgpu_kernel import quiet
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine import find
from tfgpu_kernel.image.ensure import present
from tfgpu_kernel.progress import unheard


def now() -> None:
    """Tell that it begins."""
    print("now", flush=True)


async def start(workspace: Path) -> None:
    """Start a kernel, or claim one where one waits."""
    now()
    async with kernel(workspace):
        await asyncio.sleep(60)


async def restart(workspace: Path) -> None:
    """Restart a kernel again and again."""
    async with kernel(workspace) as driven:
        now()
        while True:
            await driven.restart()


async def shutdown(workspace: Path) -> None:
    """Shut a kernel down."""
    async with kernel(workspace) as driven:
        now()
        await driven.manager.shutdown_kernel()


async def keep(workspace: Path) -> None:
    """Keep a kernel ready."""
    quiet.PATIENCE_SECONDS = 0  # type: ignore[misc]
    async with keeping() as kept, kernel(workspace):
        await one_ready(kept)
        now()
        await asyncio.sleep(120)


async def pull(reference: str) -> None:
    """Pull an image."""
    now()
    await present(reference, find.engine(), KernelConfig(), unheard)
    await asyncio.sleep(60)


if __name__ == "__main__":
    verb, argument = sys.argv[1:]
    if verb == "pull":
        asyncio.run(pull(argument))
    else:
        asyncio.run({"start": start, "restart": restart, "shutdown": shutdown, "keep": keep}[verb](Path(argument)))
