"""Rerun a locked notebook in its environment, and grade each cell and the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .engine.base import Engine
from .errors import NotLocked
from .image import ensure
from .lock import compare, data, normal
from .lock.compare import Difference, Grade
from .lock.normal import Sanitizer
from .lock.read import Found
from .lock.record import Hardware, Lock
from .locking import hardware
from .progress import Report, unheard
from .rerun import CellBegins, Rerun, rerun

_SHOWN_SOURCE: Final = 2000


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded. A ``decisive`` one keeps the notebook from being reproduced."""

    what: str
    text: str
    decisive: bool


@dataclass(frozen=True)
class CellResult:
    """One code cell: its number from 1, its grade, and whether it counts for the whole."""

    number: int
    grade: Grade
    source: str
    counts: bool
    unrepeatable: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Verification:
    """The verdict on a notebook."""

    notebook: str
    grade: Grade
    """The worst of the cells that count."""
    reproduced: bool
    findings: tuple[Finding, ...]
    cells: tuple[CellResult, ...]
    recorded: Hardware
    here: Hardware
    image: str
    seconds: float
    rerun: Any = field(repr=False, default=None)
    """The notebook as the rerun left it."""

    @property
    def verdict(self) -> str:
        """The verdict in a sentence."""
        if not self.reproduced and self.grade < Grade.DIFFERENT:
            return f"Not reproduced: the outputs are {self.grade.words}, but what was run is not what was locked."
        if not self.reproduced:
            return f"Not reproduced: {self.grade.words}."
        return f"Reproduced: {self.grade.words}."


async def verify(
    path: Path,
    notebook: Any,
    found: Found,
    engine: Engine,
    *,
    kernel_name: str,
    settings: Mapping[str, Any],
    least: Grade = Grade.TOLERANCE,
    further: Sequence[Sanitizer] = (),
    timeout: int | None = None,
    report: Report,
    begins: CellBegins,
) -> Verification:
    """Rerun and grade; the notebook's file stays as it is.

    :param least: the worst grade that still counts as reproduced.
    :param further: patterns to take out of outputs before they are compared.
    :raises NotLocked: where there are no results to compare with.
    :raises TfgpuError: where the locked environment can't be had.
    """
    lock = found.lock
    if lock.cells is None:
        raise NotLocked(
            f"The notebook {path.name} holds an environment, but no results to compare with.",
            f"its author locks it: jupyter tfgpu lock {path.name}.",
        )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    findings = [*await asyncio.to_thread(_files, lock, path)]
    done = await rerun(
        notebook, path, kernel_name=kernel_name, settings=settings, repeatable=lock.repeatable,
        timeout=timeout, report=report, begins=begins,
    )  # fmt: skip
    here = await hardware(done)
    findings += [*await _packages(done, lock, engine), *_environment(done, lock), *_hardware(lock.recorded, here)]
    after = [cell for cell in done.notebook.cells if cell.cell_type == "code"]
    findings = [*_content(code, after, lock), *findings]
    cells = tuple(
        _cell(number, old, new, lock, done, further)
        for number, (old, new) in enumerate(zip(code, after, strict=True), 1)
    )
    grade = max((cell.grade for cell in cells if cell.counts), default=Grade.IDENTICAL)
    return Verification(
        notebook=path.name,
        grade=grade,
        reproduced=grade <= least and not any(finding.decisive for finding in findings),
        findings=tuple(findings),
        cells=cells,
        recorded=lock.recorded,
        here=here,
        image=lock.image.pinned,
        seconds=done.seconds,
        rerun=done.notebook,
    )


def _cell(
    number: int, old: Any, new: Any, lock: Lock, done: Rerun, further: Sequence[Sanitizer]
) -> CellResult:
    assert lock.cells is not None
    why = lock.cells[number - 1].unrepeatable if number <= len(lock.cells) else ()
    source = normal.joined(old.source)[:_SHOWN_SOURCE]
    if done.failed is not None and number > done.failed:
        first = number == done.failed + 1
        error = done.error if first else f"not run, since cell {done.failed + 1} failed"
        return CellResult(number, Grade.FAILED, source, True, why, error=error)
    if number <= len(lock.cells) and normal.digest(new.outputs) == lock.cells[number - 1].outputs:
        # What counts is what was locked: the outputs in the file may be of a later run.
        return CellResult(number, Grade.IDENTICAL, source, not why, why)
    grade, differences = compare.outputs(old.outputs, new.outputs, lock.tolerance, further)
    return CellResult(number, grade, source, not why, why, differences)


def _content(code: Sequence[Any], after: Sequence[Any], lock: Lock) -> list[Finding]:
    """Compare the notebook with what its own lock says of it."""
    assert lock.cells is not None
    if len(code) != len(lock.cells):
        text = f"It has {len(code)} code cells, and had {len(lock.cells)} when it was locked."
        return [Finding("cells", text, True)]
    found = []
    for number, (cell, rerun_cell, known) in enumerate(zip(code, after, lock.cells, strict=True), 1):
        if normal.source_digest(cell.source) != known.source:
            found.append(Finding("cell", f"Cell {number} was edited after the notebook was locked.", True))
        if normal.digest(cell.outputs) != known.outputs:
            text = f"The outputs of cell {number} in the file are not those that were locked."
            again = normal.digest(rerun_cell.outputs) == known.outputs
            found.append(Finding("outputs", text, not again))
    return found


def _files(lock: Lock, path: Path) -> list[Finding]:
    words = {"missing": "is not here", "changed": "is not the file that was locked: its SHA-256 differs"}
    return [
        Finding("data", f"The data file {one.file.name} {words[one.state]}.", True)
        for one in data.states(lock.data, path)
        if one.state != "here"
    ]


async def _packages(done: Rerun, lock: Lock, engine: Engine) -> list[Finding]:
    facts = await ensure.known(done.kernel.image.record, done.kernel.image.requested, engine, unheard)
    locked = lock.packages.installed
    names = sorted({*facts.packages, *locked})
    changed = [
        f"{name} {locked.get(name, 'absent')} → {facts.packages.get(name, 'absent')}"
        for name in names
        if locked.get(name) != facts.packages.get(name)
    ]
    if not changed or not locked:
        return []
    return [Finding("packages", f"Python packages differ (locked → here): {', '.join(changed)}.", True)]


def _environment(done: Rerun, lock: Lock) -> list[Finding]:
    if done.failed is not None:
        return []
    rerun_only = {"PYTHONHASHSEED", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC"}
    return [
        Finding(
            "environment",
            f"{name} was {_set(value)} when the notebook was locked, and is "
            f"{_set(done.inside.environment.get(name))} here.",
            False,
        )
        for name, value in lock.environment.items()
        if name not in rerun_only and done.inside.environment.get(name) != value
    ]


def _hardware(recorded: Hardware, here: Hardware) -> list[Finding]:
    def names(hardware: Hardware) -> str:
        return ", ".join(gpu.name for gpu in hardware.gpus) or "none"

    pairs = [
        ("cpu", "CPU", recorded.cpu, here.cpu),
        ("threads", "number of processors for the kernel", recorded.threads, here.threads),
        ("gpu", "GPU", names(recorded), names(here)),
        ("driver", "NVIDIA driver", recorded.driver, here.driver),
        ("toolkit", "NVIDIA container toolkit", recorded.toolkit, here.toolkit),
    ]
    return [
        Finding(what, f"The {words} is another: {old} when it was locked, {new} here.", False)
        for what, words, old, new in pairs
        if old and new and old != new
    ]


def _set(value: str | None) -> str:
    return "not set" if value is None else f'"{value}"'
