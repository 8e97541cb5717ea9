"""What saved cells set before an import: plain values are foreseen, all else is unclear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfgpu_kernel.cells import Foreseen, foresee, of_cells

PRELOAD = ("tensorflow", "matplotlib.pyplot")


@pytest.mark.parametrize(
    ("cell", "values", "unclear"),
    [
        ('os.environ["KERAS_BACKEND"] = "torch"', {"KERAS_BACKEND": "torch"}, set()),
        ("%env TF_ENABLE_ONEDNN_OPTS=0", {"TF_ENABLE_ONEDNN_OPTS": "0"}, set()),
        ("os.environ['TF_ENABLE_ONEDNN_OPTS'] = str(n)", {}, {"TF_ENABLE_ONEDNN_OPTS"}),
        ("os.environ.setdefault('XLA_FLAGS', '--x')", {}, {"XLA_FLAGS"}),
        ("if a: os.environ['OMP_NUM_THREADS'] = '1'", {}, {"OMP_NUM_THREADS"}),
        ("Path('~/.keras/keras.json').expanduser().write_text(text)", {}, {"keras.json"}),
        ("os.environ['CUDA_VISIBLE_DEVICES'] = ''", {}, set()),
        ("print('KERAS_BACKEND')", {}, set()),
        ("os.environ['MINE'] = '1'", {}, set()),
    ],
)
def test_what_a_cell_sets_is_foreseen_or_unclear(cell: str, values: dict[str, str], unclear: set[str]) -> None:
    """A plain value is known; a computed or conditional one, or Keras' own file, is not; others don't matter."""
    assert of_cells(iter([cell]), PRELOAD) == Foreseen(values, frozenset(unclear))


def test_two_values_of_one_variable_are_unclear() -> None:
    """Set to two values in two cells, nobody knows which is run first."""
    cells = [f"os.environ['KERAS_BACKEND'] = '{name}'" for name in ("torch", "jax")]
    assert of_cells(iter(cells), PRELOAD) == Foreseen({}, frozenset({"KERAS_BACKEND"}))


SET, IMPORT = "os.environ['KERAS_BACKEND'] = 'jax'", "import tensorflow as tf"
PLOTS = "os.environ['MPLBACKEND'] = 'svg'"
BACKEND = {"KERAS_BACKEND": "jax"}


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        ([IMPORT, SET], {}),
        ([f"{IMPORT}\n{SET}"], {}),
        ([f"{SET}\n{IMPORT}"], BACKEND),
        ([SET, IMPORT, SET], BACKEND),
        (["import os, keras", SET], {}),
        (["import os; import tensorflow.keras as k", SET], {}),
        (["from tensorflow.keras import layers", "os.environ['TF_X'] = str(x)", "open('keras.json')"], {}),
        (["try:\n    import tensorflow", SET], BACKEND),
        (["import numpy, os, mytensorflow", SET], BACKEND),
        ([IMPORT, PLOTS, "import matplotlib.pyplot as plt", SET], {"MPLBACKEND": "svg"}),
        (["import matplotlib", SET, PLOTS, IMPORT], BACKEND),
    ],
)
def test_what_is_set_after_the_import_is_left_alone(cells: list[str], values: dict[str, str]) -> None:
    """It comes too late in a cold kernel, too. Matplotlib's are set before Matplotlib, all others before the others."""
    assert of_cells(iter(cells), PRELOAD) == Foreseen(values, frozenset())


def test_what_is_no_notebook_says_nothing(tmp_path: Path) -> None:
    """A notebook that isn't there, or isn't one, foresees nothing; an old one's cells are found in its sheets."""
    assert foresee("", PRELOAD) == foresee(str(tmp_path / "none.ipynb"), PRELOAD) == Foreseen()
    odd = tmp_path / "odd.ipynb"
    odd.write_text("[1]")
    assert foresee(str(odd), PRELOAD) == Foreseen()
    odd.write_text(json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": "%env KERAS_BACKEND=jax"}]}]}))
    assert foresee(str(odd), PRELOAD).values == {"KERAS_BACKEND": "jax"}
