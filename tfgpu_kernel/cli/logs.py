"""Print what a kernel's container wrote beside its cells' outputs."""

from __future__ import annotations

import argparse

from ..engine import find
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")
    parser.add_argument("-n", "--tail", type=int, default=200, help="how many lines (%(default)s)")


async def run(arguments: argparse.Namespace) -> int:
    """Print the log's last lines."""
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        print(await engine.logs(kernel.container.id, arguments.tail))
    finally:
        await engine.close()
    return 0
