"""The files that a verb is to write, judged before its work is done: hours of it must not end at a wrong path."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError


def check(*paths: Path | None) -> None:
    """See that each file can be written; None stands for one that isn't wanted.

    :raises ConfigError: at the first that can't.
    """
    for path in paths:
        why = _fault(path) if path is not None else ""
        if why:
            raise ConfigError(
                f"{path} can't be written: {why}. Nothing was started.", "name a file that you may write."
            )


def write(path: Path, text: str) -> None:
    """Write a text; a folder that is missing is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _fault(path: Path) -> str:
    """Return why a file can't be written; nothing where it can. A folder that is missing counts as to be made."""
    path = path.resolve()
    if path.is_dir():
        return "it is a folder"
    if path.exists() and not os.access(path, os.W_OK):
        return "it is not yours to change"
    if path.exists() and not path.is_file():
        return ""  # a pipe or a terminal
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir():
        return f"{folder} is a file"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"you may not write in the folder {folder}"
