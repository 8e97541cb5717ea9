"""Write a locked notebook and all it needs into one file."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from .. import bundle
from ..engine import find
from ..errors import NotLocked
from ..lock import read
from . import notebook, outputs
from .terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("notebook", metavar="NOTEBOOK", type=Path)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="(default: NOTEBOOK with .tfgpu.zip)")
    parser.add_argument("--image", action="store_true", help="take the image along, for machines without a network")


async def run(arguments: argparse.Namespace) -> int:
    """Export the notebook."""
    path: Path = arguments.notebook
    notebook.read(path)
    found = await asyncio.to_thread(read.find, path)
    if found is None:
        raise NotLocked(f"The notebook {path} has no lock.", f"lock it: jupyter tfgpu lock {path}.")
    target: Path = arguments.output or path.with_suffix(".tfgpu.zip")
    outputs.check(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    engine = find.engine() if arguments.image else None
    try:
        with shown() as report:
            await bundle.export(path, found.lock, target, engine, report)
    finally:
        if engine is not None:
            await engine.close()
    print(f"Wrote {target}, {target.stat().st_size / 1e6:.1f} MB")
    return 0
