"""What importing ahead must heed of a notebook: what is set before its imports, and where it wants a cold start."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from . import cells, wary
from .boot.variables import MATPLOTLIB_FILE
from .boot.warm import COLD_FILE
from .launch import Prepared
from .runfolder import RunFolder

_COLD_BYTES: Final = 4096
_cold: Final[dict[str, set[str]]] = {}


def judge(prepared: Prepared) -> tuple[Mapping[str, str], str]:
    """Return what is set while importing ahead for this notebook, and why nothing fits that was; empty where it does.

    Reads the notebook; call it in a thread.
    """
    request = prepared.request
    foreseen = cells.foresee(request.notebook)
    refusal = ""
    if prepared.config.preload and (Path(request.cwd) / MATPLOTLIB_FILE).exists():
        refusal = f"its folder has a {MATPLOTLIB_FILE}, which acts on an import"
    if foreseen.unclear:
        refusal = f"the notebook sets {', '.join(sorted(foreseen.unclear))}, which acts on an import"
    refused = cold_variables(request.run, request.notebook) - set(foreseen.values)
    if refused:
        refusal = f"a cell set {', '.join(sorted(refused))}, which acts on an import"
    return foreseen.values, refusal


def cold_variables(run: RunFolder | None, notebook: str) -> set[str]:
    """Return the variables that cells of this kernel, or of this notebook before, set too late."""
    found = set(_cold.get(notebook, ()))
    if run is not None:
        with contextlib.suppress(OSError):
            found |= set(wary.read(run.io / COLD_FILE, _COLD_BYTES).decode(errors="replace").split())
    if found and notebook:
        _cold[notebook] = found
    return found
