"""Remove kernels that no living server owns; with --all everything of ours but running, owned kernels."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil

from platformdirs import user_cache_path

from .. import additions
from ..engine import find
from ..labels import IMAGE_KIND, KIND, KIND_KERNEL
from ..runfolder import cache_folder, roots
from ..sweep import sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "-a", "--all", action="store_true", help="also our images and the cache folders (before uninstalling)"
    )


async def run(arguments: argparse.Namespace) -> int:
    """Remove, and say what was removed."""
    engine = find.engine()
    try:
        removed = await sweep(engine, spare=False)
        for orphan in removed:
            print(f"Removed the container {orphan.container.name}")
        if not removed:
            print("Every kernel has a living server; none was removed.")
        if arguments.all:
            # Every user's kernels: images are the machine's.
            used = {container.image for container in await engine.list({KIND: KIND_KERNEL})}
            for image in await engine.images({IMAGE_KIND: ""}):
                if image.id in used or used & set(image.tags):
                    print(f"Kept {image.tags or image.id}: a kernel runs in it")
                    continue
                await engine.remove_image(image.id, force=True)
                print(f"Removed the image {', '.join(image.tags) or image.id}")
            for folder in (cache_folder(), additions.root(os.geteuid()), user_cache_path("tfgpu-images")):
                shutil.rmtree(folder, ignore_errors=True)
                print(f"Removed {folder}")
            for root in roots():
                with contextlib.suppress(OSError):  # not there, or a kernel has its folder in it
                    root.rmdir()
    finally:
        await engine.close()
    return 0
