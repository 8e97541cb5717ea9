"""Run a command in a kernel's container, as the kernel's user."""

from __future__ import annotations

import argparse
import sys

from ..engine import find, interactive
from ..errors import ConfigError
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "-t", "-it", "--tty", dest="terminal", action="store_true",
        help="on this terminal: keys go in as they are typed (default command: a shell)",
    )
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")
    parser.add_argument(
        "command", metavar="CMD", nargs=argparse.REMAINDER, help="command and arguments (default: id)"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Run the command, print what it printed, and return its exit code."""
    if arguments.terminal and not sys.stdin.isatty():
        raise ConfigError("There is no terminal here, as -t wants it: standard input is none.", "leave -t out.")
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        if arguments.terminal:
            command = arguments.command or ["sh", "-c", "exec $(command -v bash || command -v sh)"]
            # Nothing else is to be done meanwhile, so the loop may wait.
            return interactive.run(engine.address, kernel.container.id, command)
        result = await engine.execute(kernel.container.id, arguments.command or ["id"], seconds=3600)
    finally:
        await engine.close()
    sys.stdout.buffer.write(result.output)
    return result.code
