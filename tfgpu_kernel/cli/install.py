"""Make a launcher entry: a kernelspec that runs the image you name."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from jupyter_client.kernelspec import KernelSpecManager

from ..errors import ConfigError
from ..settings import judged
from .settings import add_settings, chosen_settings

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
"""What jupyter_client takes as the name of a kernel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--name", default="tfgpu", help="name of the kernelspec (default: %(default)s)")
    parser.add_argument("--display-name", help="what the launcher shows")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--user", dest="for_user", action="store_true", help="install for this user")
    place.add_argument("--sys-prefix", action="store_true", help="install into this Python's environment")
    place.add_argument("--prefix", help="install under this folder")
    add_settings(parser, without=("user",))


async def run(arguments: argparse.Namespace) -> int:
    """Write the kernelspec and say where it is.

    :raises ConfigError: when the name can't be used, or the place can't be written to.
    """
    if not _NAME.fullmatch(arguments.name):
        raise ConfigError(
            f"{arguments.name!r} can't name a kernel: only letters, digits, and . - _ may be in it.",
            "choose another --name; what the launcher shows is --display-name.",
        )
    settings = chosen_settings(arguments)
    judged(settings)
    spec = kernelspec(arguments.display_name or f"TensorFlow ({arguments.name})", settings)
    manager = KernelSpecManager()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / arguments.name
        source.mkdir()
        (source / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        for logo in logos():
            shutil.copy(logo, source)
        try:
            where = manager.install_kernel_spec(
                str(source),
                kernel_name=arguments.name,
                user=arguments.for_user,
                prefix=sys.prefix if arguments.sys_prefix else arguments.prefix,
            )
        except OSError as error:
            raise ConfigError(
                f"The kernel {arguments.name} could not be installed: {error.filename or error} can't be written.",
                "install it for yourself (--user), or into this Python's environment (--sys-prefix).",
                str(error),
            ) from error
    print(f"Installed {arguments.name} in {where}")
    if not arguments.prefix:
        _tell_of_another(arguments.name, where)
    return 0


def _tell_of_another(name: str, where: str) -> None:
    """Say so when Jupyter finds another kernelspec of the name first: in an environment, its own before the user's."""
    first = KernelSpecManager().find_kernel_specs().get(name, where)
    if Path(first).resolve() != Path(where).resolve():
        print(
            f"This Python's Jupyter finds another kernel {name} before it, in {first}.\n"
            "What to do: install it there, too (--sys-prefix), or give it another --name.",
            file=sys.stderr,
        )


def kernelspec(display_name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a kernel.json for these settings."""
    return {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {
            "debugger": True,
            "kernel_provisioner": {
                "provisioner_name": "tfgpu-docker-provisioner",
                "config": settings,
            },
        },
    }


def logos() -> list[Path]:
    """Return the logos of the installed kernelspec tfgpu, if it is there."""
    specs = KernelSpecManager().find_kernel_specs()
    folder = Path(specs["tfgpu"]) if "tfgpu" in specs else None
    return sorted(folder.glob("logo-*")) if folder else []
