"""Look after images: list, pull, build one where no registry is in reach."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..config import KernelConfig, image_reference
from ..engine import find
from ..engine.base import ImageRecord
from ..image import build as builder
from ..image import debian
from ..image.ensure import ensure
from ..labels import IMAGE_BASE_NAME, IMAGE_KIND
from ..progress import Step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's own verbs."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the images that this package made")
    listing.add_argument("--json", action="store_true", help="print JSON")
    pull = verbs.add_parser("pull", help="have an image, ready for kernels: pulled and completed")
    pull.add_argument("image", metavar="IMAGE")
    build = verbs.add_parser("build", help="make a TensorFlow image from Debian's and PyPI's packages")
    kind = build.add_mutually_exclusive_group(required=True)
    kind.add_argument("--gpu", action="store_true", help="with CUDA (about 3.5 GB to download)")
    kind.add_argument("--cpu", dest="gpu", action="store_false", help="without CUDA")
    build.add_argument("--tensorflow", default="", metavar="VERSION")
    build.add_argument("--python", default="", metavar="VERSION")
    build.add_argument("--tag", default="", metavar="REF", help="name of the image")


async def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for."""
    engine = find.engine()
    try:
        if arguments.verb == "list":
            show(await engine.images({IMAGE_KIND: ""}), as_json=arguments.json)
        elif arguments.verb == "pull":
            config = KernelConfig(image=image_reference(arguments.image), pull="always")
            with Telling() as telling:
                await ensure(config.image, engine, config, telling.report)
        else:
            recipe = builder.recipe(
                gpu=arguments.gpu,
                tensorflow=arguments.tensorflow,
                python=arguments.python,
                host=debian.host_release(),
            )
            tag = arguments.tag or recipe.tag
            if await builder.find(recipe, tag, engine) is not None:
                print(f"{tag} is there, built by the same recipe")
                return 0
            with Telling() as telling:
                await builder.build(recipe, engine, tag, telling.report)
    finally:
        await engine.close()
    return 0


def show(images: list[ImageRecord], *, as_json: bool) -> None:
    """Print images as a table, or as JSON."""
    rows = [
        {
            "tags": list(image.tags),
            "id": image.id,
            "kind": image.labels.get(IMAGE_KIND, ""),
            "made_from": image.labels.get(IMAGE_BASE_NAME, ""),
            "size_bytes": image.size_bytes,
        }
        for image in images
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("IMAGE", "KIND", "MADE FROM", "SIZE", box=None)
    for image, row in zip(images, rows, strict=True):
        name = ", ".join(image.tags) or image.id
        table.add_row(name, row["kind"], row["made_from"], f"{image.size_bytes / 1e9:.2f} GB")
    Console().print(table)


class Telling:
    """Shows steps: a progress bar in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._last = ""

    def __enter__(self) -> Telling:
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, step: Step) -> None:
        """Show a step."""
        if self._console.is_terminal:
            self._progress.update(
                self._task, description=step.text, completed=step.done or 0, total=step.total
            )
        elif step.text != self._last:
            self._last = step.text
            sys.stderr.write(f"    {step.text}\n")
