"""What ``make demo`` sets up may lack what it can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("options", "code"), [(["--optional"], 0), ([], 1)])
def test_without_npm_only_the_tests_stop(tmp_path: Path, options: list[str], code: int) -> None:
    """No data set is no reason not to show the demo, and it is said that the kernel downloads it; tests need it."""
    target = tmp_path / "mnist.npz"
    command = [sys.executable, "scripts/mnist.py", *options, str(target)]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "npm is not on this machine" in done.stdout + done.stderr
    assert ("Keras downloads it" in done.stdout) == (code == 0)
    assert not target.exists()


@pytest.mark.parametrize(("goal", "optional"), [("demo", True), ("lab", True), ("test", False)])
def test_which_goals_can_do_without_the_data(goal: str, optional: bool) -> None:
    """Demo and JupyterLab go on without; the tests are strict."""
    told = subprocess.run(["make", "-n", goal], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert ("scripts/mnist.py --optional" in told) == optional
    assert "scripts/mnist.py" in told
