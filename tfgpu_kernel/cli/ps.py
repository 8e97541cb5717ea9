"""List the kernels that run in containers."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from ..engine import find
from .kernels import Known, known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


async def run(arguments: argparse.Namespace) -> int:
    """Print the kernels."""
    engine = find.engine()
    try:
        rows = [row(kernel) for kernel in await known(engine)]
    finally:
        await engine.close()
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = Table("KERNEL", "NOTEBOOK", "IMAGE", "GPUS", "STATE", "UP", "SERVER", box=None)
    for entry in rows:
        table.add_row(
            entry["kernel_id"][:12] or "-",
            entry["notebook"] or "-",
            entry["image"],
            str(len(entry["gpus"])),
            _state(entry),
            f"{(time.time() - entry['created']) / 60:.0f} min",
            serving(entry),
        )
    Console().print(table)
    return 0


def _state(entry: dict[str, Any]) -> str:
    """Say what a kernel does, and of one that waits to be taken what it weighs."""
    if entry["ready"]:
        return f"ready ({entry['memory_bytes'] / 2**20:.0f} MB)"
    return f"{entry['state']}: {entry['death']}" if entry["death"] else str(entry["state"])


def serving(entry: dict[str, Any]) -> str:
    """Say whether a kernel's server lives, and if not, for how long sweeps still spare the kernel."""
    if entry["owned"]:
        return "alive"
    left = entry["grace_seconds"]
    if left is None:
        return "gone"
    return f"gone; kept {duration(left)}" + ("" if entry["adoptable"] else "; no server can take it up")


def duration(seconds: float) -> str:
    """Return a time as one reads it in a table."""
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"


def row(kernel: Known) -> dict[str, Any]:
    """Return what is shown of a kernel; times in seconds since the epoch.

    One that waits to be taken holds no GPU, whichever it sees; ``memory_bytes`` says what it weighed when it was made.
    """
    ready = kernel.ready
    return {
        "kernel_id": kernel.kernel_id,
        "container": kernel.container.id,
        "name": kernel.container.name,
        "notebook": kernel.state.notebook if kernel.state else "",
        "image": kernel.labels.image,
        "gpus": [] if ready else list(kernel.labels.gpus),
        "ready": ready is not None,
        "memory_bytes": ready.memory_bytes if ready else None,
        "state": kernel.container.state,
        "created": kernel.container.created,
        "owned": kernel.owned,
        "grace_seconds": kernel.grace_seconds,
        "adoptable": kernel.adoptable,
        "death": kernel.state.death if kernel.state else "",
    }
