"""Variables and files that a cell makes too late for what was imported ahead: told where they would have acted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from tfgpu_kernel.boot.warm import COLD_FILE, SOCKET

MODULES = {
    "heavy.py": "import os\ntry:\n    import extra\nexcept ImportError:\n    pass\n"
    "level = os.environ.get('TF_CPP_MIN_LOG_LEVEL')",
    "matplotlib/__init__.py": "import os\nsettings = os.path.exists('matplotlibrc')",
    "matplotlib/pyplot.py": "",
}


@dataclass
class Told:
    """What cells printed, on either stream, and what the next start is told."""

    out: str
    err: str
    cold: list[str]


Cells = Callable[..., Told]


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    """Return a function that runs code in a kernel that waited, with ``heavy`` and Matplotlib (of ours) imported."""
    modules, notebooks = tmp_path / "modules", tmp_path / "notebooks"
    notebooks.mkdir()
    for name, text in MODULES.items():
        (modules / name).parent.mkdir(exist_ok=True, parents=True)
        (modules / name).write_text(text)

    def run(code: str, **preset: str) -> Told:
        (tmp_path / SOCKET).unlink(missing_ok=True)
        order = {"preload": ["heavy", "matplotlib.pyplot"], "preset": preset}
        before = f"""
            import os, sys
            from types import SimpleNamespace
            sys.path[:1] = ["", {str(modules)!r}]
            from tfgpu_kernel.boot.warm import Waiting
            kernel = Waiting(SimpleNamespace(shell=SimpleNamespace(user_ns={{}})), {str(tmp_path)!r}, None)
            kernel.begin({order!r})
            kernel._watch()
        """
        command = [sys.executable, "-c", dedent(before) + dedent(code)]
        root = str(Path(__file__).parents[1])
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": root}
        done = subprocess.run(command, cwd=notebooks, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        cold = tmp_path / COLD_FILE
        return Told(done.stdout, done.stderr, cold.read_text().splitlines() if cold.exists() else [])

    return run


def test_a_variable_that_comes_too_late_is_told(cells: Cells) -> None:
    """Set before the import that would have read it, it is named with what was loaded, and the next start is cold."""
    told = cells("os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'")
    assert told.err.startswith("tfgpu: TF_CPP_MIN_LOG_LEVEL has no effect here, because heavy was loaded ahead.")
    assert told.cold == ["late TF_CPP_MIN_LOG_LEVEL"]


@pytest.mark.parametrize(
    "code",
    [
        "import heavy; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'",
        "import matplotlib; os.environ['MPLBACKEND'] = 'agg'",
        "os.environ['TF_DETERMINISTIC_OPS'] = os.environ['TF_GPU_ALLOCATOR'] = '1'",
        "os.environ.setdefault('KMP_DUPLICATE_LIB_OK', 'True'); os.environ.setdefault('KMP_INIT_AT_FORK', 'FALSE')",
    ],
)
def test_a_variable_that_has_its_effect_is_not_told(cells: Cells, code: str) -> None:
    """Nothing is said of one that is set after the import, as in a cold kernel, nor of one that no import reads."""
    assert cells(code) == Told("", "", [])


@pytest.mark.parametrize(
    "name", ["MPLBACKEND", "MATPLOTLIBRC", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "HDF5_USE_FILE_LOCKING"]
)
def test_what_others_than_tensorflow_read_is_told(cells: Cells, name: str) -> None:
    """A variable is told with the module that would have read it, and not where that is imported already."""
    module, other = ("matplotlib.pyplot", "heavy") if name.startswith("M") else ("heavy", "matplotlib")
    told = cells(f"import {other}; os.environ[{name!r}] = 'x'")
    assert told.err.startswith(f"tfgpu: {name} has no effect here, because {module} was loaded ahead.")


def test_a_matplotlibrc_acts_in_no_other_folder(cells: Cells, tmp_path: Path) -> None:
    """Imported ahead, Matplotlib sees none of the folder where the kernel waits; one that a cell writes is told."""
    file = tmp_path / "notebooks/matplotlibrc"
    file.write_text("")
    code = "os.remove('matplotlibrc'); import matplotlib; print(matplotlib.settings)"
    assert cells(code) == Told("False\n", "", [])
    told = cells("open('matplotlibrc', 'w').close(); import heavy; print(1); import matplotlib")
    assert told.err.startswith("tfgpu: matplotlibrc has no effect here, because matplotlib.pyplot was loaded ahead.")


def test_a_value_that_was_foreseen_and_does_not_come_is_told(cells: Cells) -> None:
    """What was set while importing ahead, and by no cell before the import, isn't set ahead for the next start."""
    told = cells("import matplotlib; print(1); import heavy; os.environ['KERAS_BACKEND'] = 'jax'", KERAS_BACKEND="jax")
    assert told.err.startswith("tfgpu: heavy was loaded ahead with KERAS_BACKEND, which a saved cell sets")
    assert told.err.count("\n") == 1
    assert told.cold == ["mistaken KERAS_BACKEND"]


def test_a_value_that_was_foreseen_and_comes_is_not_told(cells: Cells) -> None:
    """Set as it was foreseen, the variable has its effect, and the module has read it."""
    code = "print(os.environ.get({0!r})); os.environ[{0!r}] = '3'; import heavy; print(heavy.level)"
    name = "TF_CPP_MIN_LOG_LEVEL"
    assert cells(code.format(name), **{name: "3"}) == Told("None\n3\n", "", [])


def test_another_value_than_was_foreseen_is_late_and_mistaken(cells: Cells) -> None:
    """The next start neither takes the saved value for certain, nor a kernel that was imported ahead."""
    told = cells("os.environ['KERAS_BACKEND'] = 'torch'; import heavy", KERAS_BACKEND="jax")
    assert told.cold == ["late KERAS_BACKEND", "mistaken KERAS_BACKEND"]


@pytest.mark.parametrize(("name", "seen"), [("extra", False), ("other", True)])
def test_a_package_that_came_is_told_to_what_looks_for_it(cells: Cells, name: str, seen: bool) -> None:
    """What an import tried and did not find, and would find by now, is told at the first import; no other package."""
    told = cells(f"os.mkdir('p'); sys.path.append('p'); open('p/{name}.py', 'w').close(); import heavy")
    assert told.cold == ([] if seen else ["came extra"])
    assert told.err.startswith("tfgpu: heavy doesn't see extra, because it was loaded ahead.") is not seen


def test_an_empty_folder_is_no_package(cells: Cells) -> None:
    """A folder that happens to have the name (of data, or of a tool's runs) is none that an import looks for."""
    assert cells("os.mkdir('extra'); import heavy") == Told("", "", [])
