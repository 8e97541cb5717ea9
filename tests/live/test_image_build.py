"""Images built from Debian's and PyPI's packages alone, and kernels that run in them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.image import debian
from tfgpu_kernel.labels import IMAGE_PACKAGES

from . import gpu_machine
from .conftest import install
from .gpu_machine import needs_own_engine

ROOT = Path(__file__).parents[2]
CPU = "tfgpu-test/built:cpu"
GPU = "tfgpu/tensorflow:2.21-gpu"
MINUTES = 3.0
_LOOK = """
import ctypes, json, subprocess
import tensorflow as tf
built = tf.sysconfig.get_build_info()
listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
print(json.dumps([tf.__version__, built["is_cuda_build"], listed, ctypes.CDLL("libcuda.so.1").cuInit(0)]))
"""

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        debian.host_release() is None or shutil.which("mmdebstrap") is None,
        reason="building takes Debian or Ubuntu with mmdebstrap",
    ),
]


def tfgpu(*arguments: str) -> str:
    """Run the command line; return what it printed."""
    command = [sys.executable, "-m", "tfgpu_kernel.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def built() -> Iterator[str]:
    """Return a name for an image that is gone before and after."""
    subprocess.run(["docker", "rmi", "--force", CPU], check=False, capture_output=True)
    yield CPU
    subprocess.run(["docker", "rmi", "--force", CPU], check=False, capture_output=True)


def test_cpu_image_from_nothing_trains_mnist(kernels: Path, workspace: Path, engine: Engine, built: str) -> None:
    """It is built within three minutes, records its packages, needs no completion, and the example learns in it."""
    began = time.monotonic()
    tfgpu("image", "build", "--cpu", "--no-cache", "--tag", built)
    minutes = (time.monotonic() - began) / 60
    record = asyncio.run(engine.image(built))
    assert record is not None
    print(f"built in {minutes:.1f} min, {record.size_bytes / 1e9:.2f} GB")
    assert minutes <= MINUTES
    assert re.search(r"\btensorflow-cpu==2\.21\.\d", record.labels[IMAGE_PACKAGES])
    assert json.loads(tfgpu("image", "inspect", "--json", built))["adds"] == []
    install(kernels.parents[1], "tfgpu", "--image", built, "--gpus", "none", "--pull", "never")
    output = workspace / "out.ipynb"
    tfgpu("execute", "examples/mnist_mlp.ipynb", "-o", str(output))
    accuracy = re.search(r"test accuracy: ([\d.]+)", output.read_text())
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.97


def test_recorded_packages_build_the_same_set(built: str, tmp_path: Path) -> None:
    """What ``inspect --constraints`` writes, ``build --constraint`` takes, and the same packages come out."""
    build = ("image", "build", "--cpu", "--tag", built, "--tensorflow", "2.20")
    tfgpu(*build)
    recorded = tmp_path / "packages.txt"
    recorded.write_text(tfgpu("image", "inspect", built, "--constraints"))
    assert "tensorflow-cpu==2.20." in recorded.read_text()
    tfgpu(*build, "--no-cache", "--constraint", str(recorded))
    assert tfgpu("image", "inspect", built, "--constraints") == recorded.read_text()


@needs_own_engine
def test_gpu_image_runs_under_the_nvidia_runtime(tmp_path: Path) -> None:
    """It brings all of CUDA's wheels; TensorFlow is imported, and the kernel sees the one GPU that it was lent."""
    if os.statvfs("/var/lib").f_bavail * os.statvfs("/var/lib").f_frsize < 30e9:
        pytest.skip("needs 30 GB of disk")
    began = time.monotonic()
    tfgpu("image", "build", "--gpu")
    size = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Size}}", GPU], check=True, capture_output=True, text=True
    ).stdout
    print(f"built, or found, in {(time.monotonic() - began) / 60:.1f} min, {int(size) / 1e9:.2f} GB")
    packages = json.loads(tfgpu("image", "inspect", "--json", GPU))["packages"]
    assert len([name for name in packages if name.startswith("nvidia-")]) >= 11
    notebook = tmp_path / "look.ipynb"
    cell: dict[str, object] = {"cell_type": "code", "source": _LOOK, "metadata": {}, "outputs": []}
    cell["execution_count"] = None
    notebook.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    with gpu_machine.running(tmp_path, slim=False) as here:
        gpu_machine.carry(here.daemon, GPU)
        here.install("gpu", "--image", GPU, "--launch-timeout", "120")
        here.run([sys.executable, "-m", "tfgpu_kernel.cli", "execute", str(notebook), "--kernel", "gpu"])
        here.clear()
    printed = [output["text"] for output in json.loads(notebook.read_text())["cells"][0]["outputs"]]
    version, cuda, listed, code = json.loads("".join(map("".join, printed)).splitlines()[-1])
    assert version.startswith("2.21.")
    assert cuda is True
    assert listed.count("GPU ") == 1
    assert code == 0
