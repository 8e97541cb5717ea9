"""What a notebook's cells are going to set in the environment before they import a module that reads it.

A module that is imported ahead can't be told afterwards. So the saved cells are read before the start: a value that is
written there in plain is set while the modules are imported ahead; where that can't be told, the start is cold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .boot.variables import KERAS_FILE, matplotlibs, matters_at_import

_MOST_BYTES: Final = 8 * 2**20
"""A longer notebook would delay the start; then only the kernel itself notices."""
_NAME: Final = re.compile(r"\b[A-Z][A-Z0-9]*_?[A-Z0-9_]*\b")
_IMPORT: Final = re.compile(r"(?:^|;[ \t]*)(?P<how>import|from)[ \t]+(?P<what>[^#;\n]+)", re.MULTILINE)
"""An import that is under no condition: one in a block may not happen."""
_SETS: Final = re.compile(r"environ|putenv|%env|%set_env|load_dotenv")
_PLAIN: Final = (
    re.compile(
        r"""^(?:os\.)?environ\[(["'])(?P<name>\w+)\1\]\s*=\s*(["'])(?P<value>[^"'\\\n]*)\3\s*(?:#.*|;\s*)?$""",
        re.MULTILINE,
    ),
    re.compile(r"^%(?:set_)?env\s+(?P<name>\w+)\s*=\s*(?P<value>[^\s{}$]+)\s*$", re.MULTILINE),
)


@dataclass(frozen=True)
class Foreseen:
    """Variables that cells set: those whose value is plain, and the names of those where it is not."""

    values: Mapping[str, str] = field(default_factory=dict)
    unclear: frozenset[str] = frozenset()


def foresee(notebook: str, preload: Collection[str]) -> Foreseen:
    """Read a saved notebook; nothing is foreseen where there is none, or it can't be read.

    :param preload: the modules that are imported ahead.
    """
    path = Path(notebook)
    try:
        if not path.is_absolute() or path.stat().st_size > _MOST_BYTES:
            return Foreseen()
        content = json.loads(path.read_bytes())
        return of_cells(_code(content), preload)
    except (OSError, ValueError, AttributeError, TypeError):
        return Foreseen()


def of_cells(cells: Iterator[str], preload: Collection[str]) -> Foreseen:
    """Find out what these cells set before they import what reads it, Keras' settings file included."""
    values: dict[str, str] = {}
    unclear: set[str] = set()
    over: set[bool] = set()  # whether Matplotlib is imported already (True), and whether the others are (False)
    for cell in cells:
        named: set[str] = set()
        for plots in {True, False} - over:
            end = _first_import(cell, [name for name in preload if matplotlibs(name) is plots])
            if end is not None:
                over.add(plots)
            before = cell[:end]
            named |= {name for name in _NAME.findall(before) if matters_at_import(name) and matplotlibs(name) is plots}
            if not plots and KERAS_FILE in before:
                unclear.add(KERAS_FILE)
        if not named or not _SETS.search(cell):
            continue
        for pattern in _PLAIN:
            for match in pattern.finditer(cell):
                name, value = match["name"], match["value"]
                # Named once more in the cell, it may be set under a condition, or taken away again.
                if name in named and cell.count(name) == 1 and values.get(name, value) == value:
                    values[name] = value
                    named.discard(name)
        unclear |= named
    return Foreseen({name: text for name, text in sorted(values.items()) if name not in unclear}, frozenset(unclear))


def _first_import(cell: str, modules: Collection[str]) -> int | None:
    """Return where a cell imports one of these modules, or Keras, which needs TensorFlow; None where it doesn't."""
    packages = {name.partition(".")[0] for name in modules}
    if "tensorflow" in packages:
        packages.add("keras")
    for match in _IMPORT.finditer(cell):
        parts = match["what"].split("," if match["how"] == "import" else None)
        names = parts if match["how"] == "import" else parts[:1]
        if packages & {name.strip().partition(" ")[0].partition(".")[0] for name in names}:
            return match.start()
    return None


def _code(notebook: object) -> Iterator[str]:
    """Yield the sources of the code cells, of any version of the notebook format."""
    if not isinstance(notebook, dict):
        return
    sheets = [notebook, *notebook.get("worksheets", ())]
    for cell in (cell for sheet in sheets for cell in sheet.get("cells", ())):
        if cell.get("cell_type") == "code":
            source = cell.get("source", cell.get("input", ""))
            yield source if isinstance(source, str) else "".join(source)
