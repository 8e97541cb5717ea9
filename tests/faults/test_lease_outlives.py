"""A kernel that outlives its server keeps its GPU until it ends, or the next server takes it up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.state import machine
from tests.live import gpu_machine
from tests.live.gpu_machine import Machine, needs_own_engine
from tests.live.test_leases import launch, results

from .serving import Server

pytestmark = needs_own_engine


@pytest.fixture
def one_gpu(tmp_path: Path) -> Iterator[Machine]:
    """Return a machine with one free GPU."""
    (tmp_path / "m").mkdir()
    with gpu_machine.running(tmp_path / "m") as made:
        made.set(machine(1))
        made.install("alone", "--gpu-sharing", "exclusive", "--pool-size", "0")
        yield made
        made.clear()


def refused(where: Machine) -> list[str]:
    """Try to get the GPU; return the errors."""
    process = launch(where, "alone")
    told = results(process)
    process.communicate("", 60)
    return [kind for kind, _ in told["failed"]]


@pytest.mark.nightly
def test_an_exclusive_gpu_stays_the_kernels(one_gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no server is there nobody else gets the GPU; nor after adoption or a restart; its end frees it."""
    for name, text in one_gpu.env.items():
        monkeypatch.setenv(name, text)
    root = one_gpu.folder / "work"
    root.mkdir()
    server = Server(root)
    server.start()
    try:
        session = server.session("a.ipynb", "alone")
        server.kill()
        assert refused(one_gpu) == ["GpusTaken"]
        server.start()
        assert server.sessions() == {session["id"]: session["kernel"]["id"]}
        assert refused(one_gpu) == ["GpusTaken"]
        server.call("POST", f"api/kernels/{session['kernel']['id']}/restart")
        assert refused(one_gpu) == ["GpusTaken"]
        server.kill()
        one_gpu.daemon.docker("kill", *one_gpu.kernels())
        assert refused(one_gpu) == []
    finally:
        server.end()
