"""What saved cells set before an import: plain values are foreseen, all else is unclear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfgpu_kernel.cells import Foreseen, foresee, of_cells


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
    assert of_cells(iter([cell])) == Foreseen(values, frozenset(unclear))


def test_two_values_of_one_variable_are_unclear() -> None:
    """Set to two values in two cells, nobody knows which is run first."""
    cells = [f"os.environ['KERAS_BACKEND'] = '{name}'" for name in ("torch", "jax")]
    assert of_cells(iter(cells)) == Foreseen({}, frozenset({"KERAS_BACKEND"}))


def test_what_is_no_notebook_says_nothing(tmp_path: Path) -> None:
    """A notebook that isn't there, or isn't one, foresees nothing; an old one's cells are found in its sheets."""
    assert foresee("") == foresee(str(tmp_path / "none.ipynb")) == Foreseen()
    odd = tmp_path / "odd.ipynb"
    odd.write_text("[1]")
    assert foresee(str(odd)) == Foreseen()
    odd.write_text(json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": "%env KERAS_BACKEND=jax"}]}]}))
    assert foresee(str(odd)).values == {"KERAS_BACKEND": "jax"}
