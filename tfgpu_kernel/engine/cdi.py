"""The CDI devices that an engine knows, read from its specification folders.

Docker tells them from 28.2 on; 25 to 28.1 tell only where they read (``features.cdi``), and podman neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

USUAL: Final = ("/etc/cdi", "/var/run/cdi")
"""Where podman reads, and Docker unless told otherwise."""


def devices(folders: Iterable[str]) -> tuple[str, ...]:
    """Return the qualified names (``nvidia.com/gpu=0``) of the devices that these folders describe."""
    return tuple(dict.fromkeys(name for folder in folders for name in _named(Path(folder))))


def _named(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*")):
        if path.suffix not in {".json", ".yaml"}:
            continue
        try:
            text = path.read_text()
            specification = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
            yield from _names(specification)
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue  # the engine passes over a specification that it can't read, too


def _names(specification: Mapping[str, Any]) -> list[str]:
    return [f"{specification['kind']}={device['name']}" for device in specification["devices"]]
