"""Run a command in a kernel's container, as the kernel's user."""

from __future__ import annotations

import argparse
import sys

from ..engine import find
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")
    parser.add_argument(
        "command", metavar="CMD", nargs=argparse.REMAINDER, help="command and arguments (default: id)"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Run the command, print what it printed, and return its exit code."""
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        result = await engine.execute(kernel.container.id, arguments.command or ["id"], seconds=3600)
    finally:
        await engine.close()
    sys.stdout.buffer.write(result.output)
    return result.code
