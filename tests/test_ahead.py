"""Where a notebook wants no kernel that has modules imported ahead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tfgpu_kernel.ahead import judge
from tfgpu_kernel.launch import Prepared


def start(folder: Path, **config: Any) -> Prepared:
    """Return a start of the notebook ``n.ipynb`` in a folder."""
    request = SimpleNamespace(notebook=str(folder / "n.ipynb"), cwd=str(folder), run=None)
    settings = SimpleNamespace(**{"preload": ("tensorflow", "matplotlib.pyplot"), **config})
    return cast(Prepared, SimpleNamespace(request=request, config=settings))


def test_a_matplotlibrc_in_the_folder_starts_cold(tmp_path: Path) -> None:
    """Matplotlib reads it when it is imported, from the working directory alone; nothing preloaded, nothing is late."""
    assert judge(start(tmp_path)) == ({}, "")
    (tmp_path / "matplotlibrc").touch()
    assert judge(start(tmp_path))[1] == "its folder has a matplotlibrc, which acts on an import"
    assert judge(start(tmp_path, preload=())) == judge(start(tmp_path / "sub")) == ({}, "")
