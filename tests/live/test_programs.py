"""The same kernel serves every program that speaks jupyter_client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

CODE = "import sys, os; print('in', os.path.isdir('/tfgpu'), 6 * 7)"
SAID = "in True 42"


@pytest.fixture
def notebook(kernels: Path, workspace: Path) -> Path:
    """Return a notebook for the kernel ``tfgpu``."""
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CODE)],
        metadata={"kernelspec": {"name": "tfgpu", "display_name": "tfgpu", "language": "python"}},
    )
    path = workspace / "book.ipynb"
    nbformat.write(book, path)
    return path


def run(*command: str, stdin: str = "") -> str:
    """Run a program of this environment and return what it printed."""
    done = subprocess.run(
        [sys.executable, *command], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nbconvert_executes(notebook: Path) -> None:
    """``jupyter nbconvert --execute`` (nbclient) runs the cells in the container."""
    run("-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "out.ipynb", str(notebook))
    assert SAID in (notebook.parent / "out.ipynb").read_text()


def test_papermill_runs(notebook: Path) -> None:
    """Papermill runs the cells in the container."""
    output = notebook.parent / "out.ipynb"
    run("-m", "papermill", "--cwd", str(notebook.parent), str(notebook), str(output))
    assert SAID in output.read_text()


def test_execute_runs(notebook: Path) -> None:
    """``jupyter tfgpu execute`` runs the cells in the container and writes what it ran on."""
    output, facts = notebook.parent / "out.ipynb", notebook.parent / "facts.json"
    run("-m", "tfgpu_kernel.cli", "execute", str(notebook), "-o", str(output), "--json", str(facts))
    assert SAID in output.read_text()
    assert '"seconds_to_ready"' in facts.read_text()


def test_console_runs_a_cell(kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``jupyter console --kernel tfgpu`` runs a cell and ends its kernel when it leaves."""
    monkeypatch.chdir(workspace)
    told = run("-m", "jupyter", "console", "--kernel", "tfgpu", "--simple-prompt", stdin=f"{CODE}\nexit\n")
    assert SAID in told
