"""What a process that was killed leaves besides kernels: half-made images, what it worked in, keys of kernels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jupyter_core.paths import jupyter_runtime_dir

from . import scratch
from .engine.base import Engine
from .labels import KIND, KIND_PROBE, KIND_WORKSHOP, OWNER, UID
from .owner import Owner
from .runfolder import RunFolder

_WORK: Final = frozenset({KIND_WORKSHOP, KIND_PROBE})


async def sweep(engine: Engine) -> None:
    """Remove this user's containers, images and folders in which a process worked that is gone."""
    user = str(os.geteuid())
    for container in await engine.list({KIND: "", UID: user}):
        if _abandoned(container.labels):
            await engine.remove(container.id)
    for image in await engine.images({KIND: KIND_WORKSHOP, UID: user}):
        if _abandoned(image.labels):
            await engine.remove_image(image.id, force=True)
    await asyncio.to_thread(scratch.sweep)


def _abandoned(labels: Mapping[str, str]) -> bool:
    """Whether somebody worked in this, and is gone; what doesn't name its process is not ours to judge."""
    owner = Owner.parse(labels.get(OWNER, ""))
    return labels.get(KIND) in _WORK and owner is not None and not owner.alive


def forget_connection(run: RunFolder) -> None:
    """Remove the connection file that jupyter_client wrote for a kernel whose process is gone: it holds the key."""
    for path in Path(jupyter_runtime_dir()).glob("kernel-*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if str(json.loads(path.read_bytes()).get("ip", "")).startswith(f"{run.io}/"):
                path.unlink()
