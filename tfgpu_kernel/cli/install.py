"""Make a launcher entry: a kernelspec that runs the image you name."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from .settings import add_settings, checked, chosen_settings


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
    """Write the kernelspec and say where it is."""
    settings = chosen_settings(arguments)
    checked(settings)
    spec = kernelspec(arguments.display_name or f"TensorFlow ({arguments.name})", settings)
    manager = KernelSpecManager()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / arguments.name
        source.mkdir()
        (source / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        for logo in logos():
            shutil.copy(logo, source)
        where = manager.install_kernel_spec(
            str(source),
            kernel_name=arguments.name,
            user=arguments.for_user,
            prefix=sys.prefix if arguments.sys_prefix else arguments.prefix,
        )
    print(f"Installed {arguments.name} in {where}")
    return 0


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
