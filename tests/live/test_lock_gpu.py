"""A locked notebook on machines with GPUs: what was recorded, what is too small, and what is another kind."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.state import GIB, State, machine

from .gpu_machine import Machine, needs_own_engine
from .test_lock import made

pytestmark = [needs_own_engine, pytest.mark.nightly]


def small() -> State:
    """Return a machine with an older, smaller GPU, and an older driver."""
    known = machine(1).with_gpu(0, name="Tesla T4", compute_capability="7.5", total_bytes=15 * GIB)
    return replace(known, driver="535.183.01", cuda=12020, toolkit="1.17.8")


def test_gpu_of_the_run_is_recorded_and_another_is_named(nvidia_machine: Machine, tmp_path: Path) -> None:
    """The lock has GPU, driver and toolkit of its run; elsewhere what is too small is told before anything starts,
    and what is another kind by the verification, where all results agree."""
    here = nvidia_machine
    here.set(machine(1))
    here.install("gpu", "--gpu-required")
    notebook = made(here.folder / "shared.ipynb", "print(1 / 3)")

    def tfgpu(verb: str, *words: str, user: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "tfgpu_kernel.cli", verb, str(notebook), "--kernel", "gpu", *words]
        done = here.run(command, check=False, XDG_DATA_HOME=str(tmp_path / user))
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    tfgpu("lock", "--least-capability", "8.0", "--least-gpu-memory", "20", user="author")
    lock = json.loads(notebook.read_text())["metadata"]["tfgpu"]
    assert lock["gpu"] == {"need": "required", "compute_capability": [8, 0], "memory_bytes": 20 * 10**9}
    recorded = lock["recorded"]
    [kind] = recorded["gpus"]
    assert (kind["name"], kind["compute_capability"]) == ("NVIDIA A100-SXM4-40GB", [8, 0])
    assert (recorded["driver"], recorded["toolkit"]) == ("580.95.05", "1.18.1")
    assert "GPU-" not in json.dumps(lock)
    assert "another" not in tfgpu("verify", user="author")

    here.set(small())
    said = tfgpu("execute", user="receiver", code=1)
    assert "✗ too small  a GPU, compute capability 8.0, 20.0 GB of memory (Tesla T4 has compute capability 7.5" in said
    assert "it uses the GPUs that this machine lends to kernels" in said
    assert here.kernels() == []
    said = tfgpu("verify", "--yes", user="receiver")
    for words in (
        "The GPU is another: NVIDIA A100-SXM4-40GB when it was locked, Tesla T4 here",
        "The NVIDIA driver is another: 580.95.05",
        "The NVIDIA container toolkit is another: 1.18.1",
    ):
        assert words in said
    assert "Reproduced: bit-identical." in said

    here.set(machine(0))
    said = tfgpu("execute", user="receiver", code=1)
    assert "✗ missing    a GPU, compute capability 8.0" in said
    assert here.kernels() == []
