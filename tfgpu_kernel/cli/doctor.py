"""Examine this machine: from the GPU's driver to TensorFlow in a container, each step with its remedy.

Exit code 1 when something is broken, 0 when not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console

from ..config import AUTO, image_reference
from ..engine import find
from ..engine.base import Engine
from ..errors import TfgpuError
from ..health import examine, first_broken
from ..health.paste import paste
from ..health.text import lines, verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--smoke", action="store_true", help="also start a container with a GPU, and compute in it")
    parser.add_argument(
        "--image", default=AUTO, metavar="REFERENCE", help="the image that kernels run, or a preset's name (auto)"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--report", action="store_true", help="print a text to paste into an issue, without secrets")


async def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and say by the exit code whether something is broken."""
    image = image_reference(arguments.image)
    engine: Engine | TfgpuError
    try:
        engine = find.engine()
    except TfgpuError as error:
        engine = error
    try:
        examined = await examine(engine, image, containers=arguments.smoke)
        findings = examined.findings
        pasted = await paste(findings, engine, examined.image) if arguments.report else ""
    finally:
        if not isinstance(engine, TfgpuError):
            await engine.close()
    broken = first_broken(findings)
    if arguments.json:
        told = [asdict(finding) for finding in findings]
        print(json.dumps({"verdict": verdict(findings), "broken": broken and broken.name, "findings": told}, indent=1))
    elif arguments.report:
        print(pasted)
    else:
        console = Console(highlight=False)
        if console.is_terminal:
            for line in lines(findings, colour=True):
                console.print(line)
        else:
            print("\n".join(lines(findings)))
    return 1 if broken else 0
