"""Unpack a notebook and all it needs from a file that export wrote."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from .. import bundle
from ..config import KernelConfig
from ..engine import find
from ..lock.read import Found
from .running import add_consent, ask
from .terminal import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="(default: a folder named as the bundle)")
    add_consent(parser)


async def run(arguments: argparse.Namespace) -> int:
    """Import the bundle; nothing is written before the consent."""
    opened = await asyncio.to_thread(bundle.look, arguments.bundle)
    folder: Path = arguments.output or Path(arguments.bundle.name.removesuffix(".zip").removesuffix(".tfgpu"))
    engine = find.engine()
    try:
        held = ", ".join([opened.notebook, *(one.name for one in opened.found.lock.data)])
        size = sum(size for _, size in opened.files.values()) / 1e6
        print(f"The bundle holds {held}{', and the image' if opened.has_image else ''}: {size:.1f} MB, "
              f"for {folder}/", file=sys.stderr)  # fmt: skip
        # Its data come with it, so they are not looked for here.
        there = Found(replace(opened.found.lock, data=()), opened.found.ignored)
        await ask(there, folder / opened.notebook, engine, KernelConfig(), yes=arguments.yes)
        with shown() as report:
            notebook = await bundle.unpack(opened, folder, engine if opened.has_image else None, report)
    finally:
        await engine.close()
    print(f"Imported {notebook}; see whether it comes out again: jupyter tfgpu verify {notebook}")
    return 0
