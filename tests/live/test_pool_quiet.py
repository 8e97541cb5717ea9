"""Kernels that do nothing cost their server's engine nothing, counted at the engine's socket."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.socket_count import counting

from .serving import call, serving

KERNELS = 10
SECONDS = 60


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_idle_kernels_cause_no_engine_calls(
    kernels: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a minute with ten idle kernels and one that waits, no request at the engine's socket names a container."""
    engine = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")[2])
    door = tmp_path / "door"
    with counting(engine, door) as counted:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{door}")
        with serving(workspace) as server:
            started = [call(server, "POST", "/api/kernels", {"name": "tfgpu"}) for _ in range(KERNELS)]
            assert all("id" in kernel for kernel in started), started
            time.sleep(45)  # for the one that is made ready beside them
            counted.requests.clear()
            time.sleep(SECONDS)
            asked = dict(counted.requests)
            print(asked)
            listed = call(server, "GET", "/api/kernels")
            assert {kernel["execution_state"] for kernel in listed} <= {"idle", "starting"}
            assert not [request for request in asked if "ID" in request]
            assert sum(asked.values()) < KERNELS
            for kernel in started:
                call(server, "DELETE", f"/api/kernels/{kernel['id']}")
