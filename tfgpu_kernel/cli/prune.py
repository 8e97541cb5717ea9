"""Remove what nobody owns any more; kernels that still run without a server only when told, or after a question."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Sequence

from platformdirs import user_cache_path

from .. import additions
from ..engine import find
from ..engine.base import Engine
from ..image import reserved, store
from ..labels import IMAGE_KIND
from ..runfolder import cache_folder, roots
from ..sweep import Orphan, orphans, sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "-r", "--running", action="store_true", help="also kernels that still run and whose server is gone"
    )
    parser.add_argument(
        "-a", "--all", action="store_true",
        help="these too, and our images and the cache folders (before uninstalling)",
    )  # fmt: skip


async def run(arguments: argparse.Namespace) -> int:
    """Remove, and say what was removed."""
    engine = find.engine()
    try:
        told = arguments.all or arguments.running
        removed = list(await sweep(engine, spare=not told))
        running = await orphans(engine)
        if running and _agreed(running):
            removed += await sweep(engine, spare=False)
            running = await orphans(engine)
        for orphan in removed:
            print(f"Removed the container {orphan.container.name}")
        if running:
            print(f"Kept {_counted(running)} without a server: jupyter tfgpu adopt lists them, --running removes them.")
        elif not removed:
            print("Every kernel has a living server; none was removed.")
        if arguments.all:
            locked = await remove_images(engine)
            # What notebooks have run in which image is known there, so it stays as long as one needs an image.
            known = [] if locked else [user_cache_path("tfgpu-images")]
            for folder in (cache_folder(), additions.root(os.geteuid()), *known):
                shutil.rmtree(folder, ignore_errors=True)
                print(f"Removed {folder}")
            for root in roots():
                with contextlib.suppress(OSError):  # not there, or a kernel has its folder in it
                    root.rmdir()
    finally:
        await engine.close()
    return 0


async def remove_images(engine: Engine) -> bool:
    """Remove our images but those that a container uses or a lock needs; return whether one is kept for a lock."""
    locked = False
    # Every user's containers: images are the machine's.
    containers = await engine.list({})
    for image in await engine.images({IMAGE_KIND: ""}):
        name = ", ".join(image.tags) or image.id
        one = store.Listed(name, "", image, store.used(image, containers), reserved.needed_by(image))
        if one.why_kept:
            locked = locked or not one.used_by
            print(f"Kept {name}: {one.why_kept}.")
            continue
        await engine.remove_image(image.id, force=True)
        print(f"Removed the image {name}")
    return locked


def _agreed(running: Sequence[Orphan]) -> bool:
    """Ask whether running kernels shall end; nobody who could answer means no."""
    if not sys.stdin.isatty():
        return False
    for orphan in running:
        what = (orphan.state.notebook or orphan.state.kernel_id) if orphan.state else "unknown"
        print(f"{orphan.container.name}: {what}", file=sys.stderr)
    print(f"{_counted(running)} without a server, maybe in the middle of a training. End? [y/N] ", end="",
          file=sys.stderr, flush=True)  # fmt: skip
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _counted(running: Sequence[Orphan]) -> str:
    return "1 kernel that runs" if len(running) == 1 else f"{len(running)} kernels that run"
