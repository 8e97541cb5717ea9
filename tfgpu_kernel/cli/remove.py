"""Keep Python packages in a notebook no longer."""

from __future__ import annotations

import argparse
from pathlib import Path

from .add import add_keeping, change


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("packages", metavar="PACKAGE", nargs="+", help="a package that the notebook keeps")
    add_keeping(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Remove packages."""
    return await change(arguments, remove=arguments.packages)
