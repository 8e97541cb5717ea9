"""What importing ahead must heed of a notebook: what is set before its imports, and where it wants a cold start."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from . import cells, wary
from .boot.variables import MATPLOTLIB_FILE
from .boot.warm import CAME, COLD_FILE, LATE, MISTAKEN
from .launch import NO_RUN, Prepared
from .runfolder import RunFolder

_NOWHERE: Final = RunFolder(NO_RUN)
_NOTED_BYTES: Final = 4096
_noted: Final[dict[str, frozenset[tuple[str, str]]]] = {}


def judge(prepared: Prepared) -> tuple[Mapping[str, str], str]:
    """Return what is set while importing ahead for this notebook, and why nothing fits that was; empty where it does.

    Reads the notebook; call it in a thread.
    """
    request = prepared.request
    foreseen = cells.foresee(request.notebook, prepared.config.preload)
    known = noted(request.run, request.notebook)
    preset = {name: text for name, text in foreseen.values.items() if (MISTAKEN, name) not in known}
    refusal = ""
    if prepared.config.preload and (Path(request.cwd) / MATPLOTLIB_FILE).exists():
        refusal = f"its folder has a {MATPLOTLIB_FILE}, which acts on an import"
    if foreseen.unclear:
        refusal = f"the notebook sets {', '.join(sorted(foreseen.unclear))}, which acts on an import"
    came = sorted(name for word, name in known if word == CAME)
    if came:
        refusal = f"{', '.join(came)} came before an import that looks for it"
    late = sorted(name for word, name in known if word == LATE and name not in preset)
    if late:
        refusal = f"a cell set {', '.join(late)}, which acts on an import"
    return preset, refusal


def noted(run: RunFolder | None, notebook: str) -> frozenset[tuple[str, str]]:
    """Return what this kernel, or the notebook's before, noted for the next start: words of boot/warm.py, names."""
    found = _noted.get(notebook, frozenset())
    if run is not None:
        with contextlib.suppress(OSError):
            lines = wary.read(run.io / COLD_FILE, _NOTED_BYTES).decode(errors="replace").splitlines()
            found |= {(words[0], words[1]) for words in map(str.split, lines) if len(words) == 2}
    if found and notebook:
        _noted[notebook] = found
    return found


def came(prepared: Prepared, lacking: Iterable[str]) -> list[str]:
    """Return which of these packages the notebook's cells have installed; nothing of a folder of theirs is followed."""
    names: set[str] = set()
    for folder, folders, files in os.walk(prepared.additions(prepared.request.run or _NOWHERE)):
        if folder.endswith("-packages"):
            names.update(name.partition(".")[0] for name in (*folders, *files))
            folders.clear()
    return sorted(names.intersection(lacking))
