"""Examine this machine: from the GPU's driver to TensorFlow in a container, each step with its remedy.

Exit code 1 when something is broken, 0 when not.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import socket
from dataclasses import asdict

from rich.console import Console

from .. import __version__
from ..config import DEFAULT_IMAGE
from ..engine import find
from ..engine.base import Engine
from ..errors import TfgpuError
from ..health import examine, first_broken
from ..health.facts import look_at_machine
from ..health.text import lines, report, verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--smoke", action="store_true", help="also start a container with a GPU, and compute in it")
    parser.add_argument("--image", default=DEFAULT_IMAGE, metavar="REFERENCE", help="the image that kernels run")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--report", action="store_true", help="print a text to paste into an issue, without secrets")


async def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and say by the exit code whether something is broken."""
    engine: Engine | TfgpuError
    try:
        engine = find.engine()
    except TfgpuError as error:
        engine = error
    try:
        findings = await examine(engine, arguments.image, containers=arguments.smoke)
        version = "none" if isinstance(engine, TfgpuError) else await _version(engine)
    finally:
        if not isinstance(engine, TfgpuError):
            await engine.close()
    broken = first_broken(findings)
    if arguments.json:
        told = [asdict(finding) for finding in findings]
        print(json.dumps({"verdict": verdict(findings), "broken": broken and broken.name, "findings": told}, indent=1))
    elif arguments.report:
        machine = look_at_machine()
        about = [
            f"tfgpu-kernel {__version__}, Python {platform.python_version()}",
            f"{machine.system}, kernel {machine.kernel}{', WSL2' if machine.wsl else ''}",
            f"engine {version}, image {arguments.image}",
        ]
        private = [os.path.expanduser("~"), socket.gethostname(), _user()]
        print(report(findings, about, [word for word in private if word != "root" and word != "/"]))
    else:
        console = Console(highlight=False)
        if console.is_terminal:
            for line in lines(findings, colour=True):
                console.print(line)
        else:
            print("\n".join(lines(findings)))
    return 1 if broken else 0


async def _version(engine: Engine) -> str:
    try:
        return (await engine.info()).version
    except TfgpuError as error:
        return error.code


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
