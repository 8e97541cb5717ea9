"""The main job: the MNIST example on real TensorFlow, in an image that had no ipykernel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import install

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_the_example_trains(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """examples/mnist_mlp.ipynb reaches 97 % on the CPU, and keeps its pictures."""
    install(kernels.parents[1], "tfgpu", "--image", tensorflow, "--no-gpu-required")
    output = workspace / "out.ipynb"
    subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", "execute", "examples/mnist_mlp.ipynb", "-o", str(output)],
        check=True,
        cwd=ROOT,
        timeout=840,
    )
    text = output.read_text()
    accuracy = re.search(r"test accuracy: ([\d.]+)", text)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.97
    assert "device: CPU:0" in text
    assert text.count("image/png") >= 2
