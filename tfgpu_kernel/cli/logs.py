"""Print what a kernel's container wrote beside its cells' outputs."""

from __future__ import annotations

import argparse
import json
import sys

from ..engine import find
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")
    parser.add_argument("-n", "--tail", type=int, default=200, help="how many lines (%(default)s)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("-f", "--follow", action="store_true", help="from the start on, and go on as more comes")
    way.add_argument("--json", action="store_true", help="print JSON")


async def run(arguments: argparse.Namespace) -> int:
    """Print the log's last lines, or all of it as it comes."""
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        if arguments.follow:
            async for chunk in engine.follow(kernel.container.id):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            return 0
        text = (await engine.logs(kernel.container.id, arguments.tail)).rstrip("\n")
        if arguments.json:
            print(json.dumps({"kernel_id": kernel.kernel_id, "container": kernel.container.id,
                              "lines": text.splitlines()}, indent=1))  # fmt: skip
        elif text:
            print(text)
    finally:
        await engine.close()
    return 0
