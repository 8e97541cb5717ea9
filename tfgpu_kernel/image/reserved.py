"""Which images the locks of this machine's notebooks need, so that a clean-up leaves them alone.

Each start of a notebook's kernel is noted, by the image's identity; whether the notebook is there and still locked is
looked up when it matters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from ..engine.base import ImageRecord
from .facts import identity

OTHERS: Final = (
    "Only your own notebooks' locks are looked up: ask other users of this engine whether theirs need one of these."
)
"""What a clean-up says before it asks: the memory is each user's."""
_KEY: Final = "tfgpu"
"""Where a notebook's metadata has its lock."""


def note(record: ImageRecord, notebook: str) -> None:
    """Remember that a notebook has run in an image. A disk that is full or read-only costs only the memory."""
    if not notebook.startswith("/"):
        return
    file = _folder(record) / hashlib.sha256(notebook.encode()).hexdigest()[:24]
    with contextlib.suppress(OSError):
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(notebook)


def needed_by(record: ImageRecord) -> tuple[str, ...]:
    """Return the notebooks that have run in an image and have a lock."""
    found = []
    with contextlib.suppress(OSError):
        for file in sorted(_folder(record).iterdir()):
            notebook = file.read_text()
            if _is_locked(Path(notebook)):
                found.append(notebook)
    return tuple(found)


def _is_locked(notebook: Path) -> bool:
    try:
        return bool(json.loads(notebook.read_text())["metadata"].get(_KEY))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _folder(record: ImageRecord) -> Path:
    return user_cache_path("tfgpu-images") / "notebooks" / identity(record)
