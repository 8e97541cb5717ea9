"""End a kernel: TERM, and KILL ten seconds later."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engine import find
from ..provisioner import STOP_SECONDS
from ..runfolder import RunFolder
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")


async def run(arguments: argparse.Namespace) -> int:
    """Stop the kernel; one that no server owns is removed with its folder as well."""
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        await engine.stop(kernel.container.id, int(STOP_SECONDS))
        if not kernel.owned:
            await engine.remove(kernel.container.id)
            RunFolder(Path(kernel.labels.run)).remove()
    finally:
        await engine.close()
    print(f"Stopped {kernel.kernel_id or kernel.container.name}")
    return 0
