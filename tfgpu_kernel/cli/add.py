"""Keep Python packages in a notebook: resolved, locked by hash, and there at its next start."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..engine import find
from ..keeping import Kept, keep
from . import outputs
from .notebook import put_lock, read
from .running import add_consent, agreed
from .settings import add_settings, of_kernel
from .terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("packages", metavar="PACKAGE", nargs="+", help="such as seaborn or 'pandas>=2'")
    add_keeping(parser)


def add_keeping(parser: argparse.ArgumentParser) -> None:
    """Declare what adding and removing share."""
    parser.add_argument("--kernel", default="tfgpu", help="kernelspec whose image is taken where the notebook has "
                        "no lock yet (default: %(default)s)")  # fmt: skip
    add_consent(parser)
    add_settings(parser, without=("packages",))


async def run(arguments: argparse.Namespace) -> int:
    """Add packages."""
    return await change(arguments, add=arguments.packages)


async def change(arguments: argparse.Namespace, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
    """Change what the notebook keeps, and write it."""
    path: Path = arguments.notebook
    source = read(path)
    outputs.check(path)
    config = of_kernel(arguments)
    engine = find.engine()
    try:
        found = await agreed(path, engine, config, yes=arguments.yes)
        with shown() as report:
            kept = await keep(source.notebook(), path, found, config, engine, report, add=add, remove=remove)
    finally:
        await engine.close()
    put_lock(source, kept.lock)
    _tell(path, kept)
    return 0


def _tell(path: Path, kept: Kept) -> None:
    print(f"{path} keeps: {', '.join(kept.lock.packages.kept) or 'nothing'}")
    if kept.came:
        print(f"Added: {', '.join(kept.came)}")
    if kept.went:
        print(f"Taken away: {', '.join(kept.went)}")
    if kept.unlocked:
        print(f"Its recorded results belonged to other packages, and were dropped: jupyter tfgpu lock {path}")
    print("The next start of its kernel has them.")
