"""``execute`` says how a run ended, and keeps what it brought until then."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

from .test_lock import made, tfgpu


def printed(path: Path) -> list[str]:
    """Return what a notebook's code cells printed."""
    cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    return ["".join(one.get("text", "") for one in cell.outputs) for cell in cells]


def test_a_death_is_told_by_its_cause(kernels: Path, workspace: Path) -> None:
    """A kernel that runs out of memory ends the run in words; outputs so far and what it ran on are kept."""
    notebook = made(workspace / "a.ipynb", "print('before')", "b'x' * 2**30", "print('after')")
    output, facts = workspace / "out/b.ipynb", workspace / "facts.json"
    said = tfgpu("execute", notebook, "--memory", "256m", "-o", output, "--json", facts, code=1)
    assert "Traceback" not in said
    assert "in cell 2" in said
    assert "ran out of memory at 256 MiB" in said
    assert f"Wrote {output}" in said
    assert printed(output) == ["before\n", "", ""]
    assert json.loads(facts.read_text())["image"] == "tfgpu-test/slim"


def test_a_cell_that_takes_too_long_is_named(kernels: Path, workspace: Path) -> None:
    """The time limit of a cell ends the run in words, and outputs so far are kept."""
    late = made(workspace / "late.ipynb", "print('before')", "import time; print('begun', flush=True); time.sleep(60)")
    said = tfgpu("execute", late, "--timeout", "5", code=1)
    assert "Traceback" not in said
    assert "Cell 2 took longer than 5 s" in said
    assert printed(late) == ["before\n", "begun\n"]


def test_what_is_said_to_be_written_is(kernels: Path, workspace: Path) -> None:
    """The file that is named at the end is there, also for a notebook without cells."""
    notebook, output = made(workspace / "a.ipynb"), workspace / "b.ipynb"
    assert f"Wrote {output}" in tfgpu("execute", notebook, "-o", output)
    assert printed(output) == []


def test_a_kernel_without_a_container_is_refused(kernels: Path, workspace: Path) -> None:
    """A kernel of another kind is named as such before anything starts, and nothing is said to be written."""
    notebook, output = made(workspace / "a.ipynb", "print(1)"), workspace / "b.ipynb"
    said = tfgpu("execute", notebook, "--kernel", "python3", "-o", output, code=1)
    assert "python3 doesn't run in a container" in said
    assert "Wrote" not in said
    assert not output.exists()
