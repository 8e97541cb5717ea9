"""What the verbs that run notebooks share: the banner with its question, and the progress."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ..config import KernelConfig
from ..engine.base import Engine
from ..errors import ConsentNeeded
from ..lock import consent, needs, read
from ..lock.read import Found
from ..progress import Report, Step
from ..rerun import CellBegins
from .terminal import shown


def add_running(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of a verb that starts a notebook's kernel."""
    parser.add_argument("--kernel", default="tfgpu", help="kernelspec to start (default: %(default)s)")
    parser.add_argument("--timeout", type=int, help="seconds a cell may take (default: no limit)")
    add_consent(parser)


def add_consent(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that answers the banner's question."""
    parser.add_argument(
        "--yes", action="store_true", help="agree to what a locked notebook asks for, without a question"
    )


async def agreed(path: Path, engine: Engine, config: KernelConfig, *, yes: bool) -> Found | None:
    """Show what a locked notebook needs, and ask where a consent is needed; before anything is fetched.

    :returns: the lock; None where the notebook has none.
    :raises ConsentNeeded: where the answer is no, or there is nobody to ask.
    """
    found = await asyncio.to_thread(read.find, path)
    if found is not None:
        await ask(found, path, engine, config, yes=yes)
    return found


async def ask(found: Found, path: Path, engine: Engine, config: KernelConfig, *, yes: bool) -> None:
    """Show what a lock needs, and ask where a consent is needed.

    :raises ConsentNeeded: where the answer is no, or there is nobody to ask.
    """
    known = await needs.assess(found, path.resolve(), engine, config)
    print("\n".join(needs.lines(known)), file=sys.stderr, flush=True)
    if known.consent:
        if not yes and not await asyncio.to_thread(_asked):
            raise ConsentNeeded(
                "You have not agreed to what the notebook asks for. Nothing was fetched or started.",
                "read the list above; to agree, answer y, or add --yes.",
            )
        consent.give(found.lock)


def _asked() -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write("Agree? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def progressing() -> Iterator[tuple[Report, CellBegins]]:
    """Give the report of a launch and of the cells."""
    with shown() as report:
        def begins(number: int, count: int) -> None:
            report(Step("ready", f"Cell {number + 1} of {count}", number, count))

        yield report, begins
