"""A kernel that waited goes to its notebook's folder, also where the former one was noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MOVING = """
import multiprocessing, os, sys, types
if __name__ == "__main__":
    noted = types.ModuleType("rich")
    noted._IMPORT_CWD = "/gone"  # where the kernel imported ahead
    from tfgpu_kernel.boot.moved import move
    move(sys.argv[1], lambda name: noted if name == "rich" else sys.modules.get(name))
    sys.path.insert(0, "")
    import helper, own
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply_async(helper.f, (20,)).get(30), own.value, os.path.relpath(noted._IMPORT_CWD, sys.argv[1]))
    print(os.getcwd() in sys.path, os.path.dirname(os.getcwd()) in sys.path)
"""


def test_modules_note_the_notebooks_folder(tmp_path: Path) -> None:
    """Processes that are spawned find modules beside the notebook, and PYTHONPATH's relative folders begin there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/program.py").write_text(MOVING)
    (tmp_path / "sub/lib").mkdir(parents=True)
    (tmp_path / "sub/helper.py").write_text("def f(x): return x + 1\n")
    (tmp_path / "sub/lib/own.py").write_text("value = 2\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(["lib", str(Path(__file__).parents[1])])}
    command = [sys.executable, str(tmp_path / "run/program.py"), str(tmp_path / "sub")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["21 2 .", "False False"], done.stderr[-2000:]
