"""What in a cell's source may make its outputs differ from run to run: pure, told by the names it uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from .normal import joined

_CLOCK: Final = re.compile(
    r"\btime\.(?:time|time_ns|perf_counter|monotonic|process_time|ctime|strftime|localtime)\b"
    r"|\b(?:datetime|date|Timestamp)\.(?:now|utcnow|today)\b|^\s*%{1,2}time(?:it)?\b",
    re.MULTILINE,
)
_RANDOM: Final = re.compile(
    r"\bos\.urandom\b|\bsecrets\.|\buuid[14]\b|\bSystemRandom\b|\bdefault_rng\(\s*\)|\bRandomState\(\s*\)"
    r"|\bfrom_non_deterministic_state\b"
)
_NETWORK: Final = re.compile(r"https?://|\bget_file\(|\burlopen\(|\brequests\.(?:get|post)\b|^\s*!\s*(?:wget|curl)\b",
                             re.MULTILINE)  # fmt: skip
_INSTALL: Final = re.compile(r"^\s*[%!]\s*(?:pip3?|conda|mamba|uv)\b.*\binstall\s+(.*)$", re.MULTILINE)
_LONGEST: Final = 1024


def reasons(source: Any) -> tuple[str, ...]:
    """Return why a cell may not repeat itself, in words; empty where nothing speaks for it."""
    text = _without_comments(joined(source))
    found = []
    if _CLOCK.search(text):
        found.append("it uses the clock")
    if _RANDOM.search(text):
        found.append("it draws random numbers that no seed reaches")
    if _NETWORK.search(text):
        found.append("it may read from the network, which no lock holds")
    install = _INSTALL.search(text)
    if install:
        found.append(
            "it installs packages that are not kept in the notebook "
            f"(jupyter tfgpu add NOTEBOOK {install[1].strip()[:60]})"
        )
    return tuple(found)


def out_of_order(counts: Sequence[int | None]) -> bool:
    """Whether cells were run in another order than from top to bottom; ``counts`` of those that have run."""
    run = [count for count in counts if count is not None]
    return run != sorted(run)


def named_files(source: Any, folder: Path) -> Iterator[str]:
    """Yield the files below a folder that a cell's text constants name, as paths relative to it."""
    try:
        tree = ast.parse(_python(joined(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < _LONGEST:
            if "\0" in node.value or node.value.startswith("~"):
                continue
            path = Path(folder, node.value)
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                yield str(path.resolve().relative_to(folder.resolve()))


def _python(text: str) -> str:
    """Return a cell's text with IPython's own lines left out."""
    return "\n".join("pass" if re.match(r"\s*[%!]", line) else line for line in text.split("\n"))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
