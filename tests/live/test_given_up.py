"""A kernel that died and starts no more holds nothing, though its server lives: no GPU, no container, no file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doubles.state import machine
from tfgpu_kernel import lease

from .gpu_machine import Machine, needs_own_engine
from .serving import call, serving

pytestmark = needs_own_engine

_STARTS: str = """
import os, time
if os.path.exists("{0}/dies"):
    os._exit(9)
while os.path.exists("{0}/waits"):
    time.sleep(0.1)
"""


@pytest.fixture
def gpu(nvidia_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine with one GPU, and the kernel ``alone``, which takes it for itself."""
    root = nvidia_machine.folder / "work"
    root.mkdir(exist_ok=True)
    (root / "sitecustomize.py").write_text(_STARTS.format(root))
    nvidia_machine.set(machine(1))
    alone = ("--gpu-sharing", "exclusive", "--pool-size", "0", "--env", f"PYTHONPATH={root}")
    nvidia_machine.install("alone", *alone)
    for name, value in nvidia_machine.env.items():
        monkeypatch.setenv(name, value)
    yield nvidia_machine
    nvidia_machine.clear()
    for name in ("sitecustomize.py", "dies", "waits"):
        (root / name).unlink(missing_ok=True)


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def left(where: Machine, kernel_id: str) -> list[str]:
    """Return what there is of the kernels of this machine: GPUs held, containers, run folders, connection files."""
    runtime = where.folder / "rt"
    held = [holder.run for holder in lease.holders() if holder.run.startswith(str(where.folder))]
    files = [str(path) for path in (*runtime.glob("tfgpu/*"), *runtime.glob(f"kernel-{kernel_id}.json"))]
    return [*held, *where.kernels(), *files]


@pytest.mark.parametrize("how", ["fails", pytest.param("cancelled", marks=pytest.mark.nightly)])
def test_a_kernel_that_is_left_dead(gpu: Machine, how: str) -> None:
    """After an automatic restart that fails or is cancelled it is listed no more, and the next start gets its GPU."""
    root = gpu.folder / "work"
    log = Path(gpu.folder / f"given-up-{how}.log")
    with serving(root, "--KernelRestarter.time_to_dead=0.3", log=log) as server:
        begin = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": "alone"}}
        kernel_id = call(server, "POST", "/api/sessions", begin)["kernel"]["id"]
        assert len(left(gpu, kernel_id)) >= 4
        (root / ("dies" if how == "fails" else "waits")).touch()
        gpu.daemon.docker("kill", *gpu.kernels())
        if how == "cancelled":
            until(lambda: call(server, "DELETE", f"/tfgpu/launches/{kernel_id}") is None)  # else none is under way yet
        until(lambda: call(server, "GET", "/api/kernels") == [])
        until(lambda: left(gpu, kernel_id) == [])
        (root / ("dies" if how == "fails" else "waits")).unlink()
        again = call(server, "POST", "/api/sessions", begin)
        assert again.get("kernel", {}).get("id") not in (None, kernel_id), again
        call(server, "DELETE", f"/api/sessions/{again['id']}")
