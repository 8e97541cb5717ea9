"""What the lock of a notebook makes of a kernel's settings, when that notebook's kernel is started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..config import KernelConfig, LockedImage
from . import consent, read
from .record import Lock

LOCK_OF: Final = "TFGPU_LOCK_OF"
"""In the environment that a rerun gives its launch: the notebook whose lock is followed, though the kernel is to have
nothing else of that notebook, such as what its cells have installed."""


async def locked(config: KernelConfig, notebook: str) -> KernelConfig:
    """Return the settings for a notebook: as they are, or with the image and packages of its lock.

    Mounts, network, user, limits and which GPUs are lent stay as they are configured here, whatever the
    notebook says.

    :param notebook: absolute path; any other text means that there is none.
    :raises LockInvalid: and its kin, where the lock can't be followed.
    :raises ConsentNeeded: where the user has not agreed to it.
    """
    if not notebook.startswith("/"):
        return config
    found = await asyncio.to_thread(read.find, Path(notebook))
    if found is None:
        return config
    consent.require(found, notebook)
    return follow(config, found.lock)


def follow(config: KernelConfig, lock: Lock) -> KernelConfig:
    """Lay a lock over a kernel's settings."""
    variables = {name: value for name, value in lock.environment.items() if value is not None}
    return replace(
        config,
        image=lock.image.pinned,
        packages=(),
        system_packages=lock.packages.system,
        gpu_required=lock.gpu.need == "required",
        env=tuple(sorted({**variables, **dict(config.env)}.items())),
        locked=LockedImage(
            layers=lock.image.layers,
            added=tuple(package.line for package in lock.packages.added),
            completed=lock.packages.layers,
        ),
    )


def versions(installed: Mapping[str, str]) -> tuple[str, ...]:
    """Return packages as ``name==version``, sorted, as the label of a completed image has them."""
    return tuple(f"{name}=={version}" for name, version in sorted(installed.items()))
