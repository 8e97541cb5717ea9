"""Where a notebook wants no kernel that has modules imported ahead."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tfgpu_kernel.ahead import came, judge
from tfgpu_kernel.boot.warm import COLD_FILE
from tfgpu_kernel.launch import Prepared
from tfgpu_kernel.runfolder import RunFolder


def start(folder: Path, **config: Any) -> Prepared:
    """Return a start of the notebook ``n.ipynb`` in a folder."""
    request = SimpleNamespace(notebook=str(folder / "n.ipynb"), cwd=str(folder), run=RunFolder(folder))
    settings = SimpleNamespace(**{"preload": ("tensorflow", "matplotlib.pyplot"), **config})
    made = SimpleNamespace(request=request, config=settings, additions=lambda run: folder / "packages")
    return cast(Prepared, made)


def test_a_matplotlibrc_in_the_folder_starts_cold(tmp_path: Path) -> None:
    """Matplotlib reads it when it is imported, from the working directory alone; nothing preloaded, nothing is late."""
    assert judge(start(tmp_path)) == ({}, "")
    (tmp_path / "matplotlibrc").touch()
    assert judge(start(tmp_path))[1] == "its folder has a matplotlibrc, which acts on an import"
    assert judge(start(tmp_path, preload=())) == judge(start(tmp_path / "sub")) == ({}, "")


@pytest.mark.parametrize(
    ("noted", "preset", "refusal"),
    [
        ("late KERAS_BACKEND", {"KERAS_BACKEND": "jax"}, ""),
        ("mistaken KERAS_BACKEND", {}, ""),
        ("mistaken KERAS_BACKEND\nlate KERAS_BACKEND", {}, "a cell set KERAS_BACKEND, which acts on an import"),
        ("late TF_X", {"KERAS_BACKEND": "jax"}, "a cell set TF_X, which acts on an import"),
        ("came pydot", {"KERAS_BACKEND": "jax"}, "pydot came before an import that looks for it"),
    ],
)
def test_what_a_kernel_noted_is_heeded(tmp_path: Path, noted: str, preset: dict[str, str], refusal: str) -> None:
    """A variable that was late is set ahead once it is saved, but not one that did not come where it was set ahead."""
    cell = {"cell_type": "code", "source": "os.environ['KERAS_BACKEND'] = 'jax'"}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    (tmp_path / "io").mkdir()
    (tmp_path / "io" / COLD_FILE).write_text(noted + "\n")
    assert judge(start(tmp_path)) == (preset, refusal)


def test_what_cells_installed_matters_where_it_was_looked_for(tmp_path: Path) -> None:
    """A package, a module or one of C that was looked for in vain is found in any of pip's folders; others are not."""
    for place in ("lib/python3.11/site-packages/pydot", "local/lib/python3.12/dist-packages/seaborn"):
        (tmp_path / "packages" / place).mkdir(parents=True)
    (tmp_path / "packages/lib/python3.11/site-packages/fast.cpython-311-x86_64-linux-gnu.so").touch()
    assert came(start(tmp_path), ["fast", "pandas", "pydot"]) == ["fast", "pydot"]
    assert came(start(tmp_path / "elsewhere"), ["pydot"]) == []
