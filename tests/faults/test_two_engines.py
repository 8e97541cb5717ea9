"""A kernel's container is looked for where it is, and not where new kernels are started now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.engine import Daemon, running
from tests.live.conftest import install
from tests.live.test_failures import carry
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.sweep import sweep

from .serving import Server


@pytest.fixture(scope="module")
def other(slim: str) -> Iterator[Daemon]:
    """Run another engine, with the small image."""
    with running({}) as daemon:
        carry(slim, daemon)
        yield daemon


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="an engine of the tests' own needs root")
async def test_a_kernel_outlives_a_change_of_engines(
    kernels: Path, workspace: Path, slim: str, engine: Engine, other: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sweep of the present engine takes what may run on another; a server takes the kernel up from there."""
    install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", "--network", "none", "--pool-size", "0")
    server = Server(workspace)
    try:
        with monkeypatch.context() as there:
            there.setenv("DOCKER_HOST", other.host)
            server.start()
            kernel = server.session("x.ipynb")["kernel"]["id"]
            with server.page(kernel) as page:
                page.run("x = 41")
            server.kill()
        assert await sweep(engine, spare=False) == []
        server.start()
        assert [model["id"] for model in server.get("api/kernels").json()] == [kernel]
        assert server.get("tfgpu/deaths").json()["deaths"] == []
        with server.page(kernel) as page:
            assert page.run("print(x + 1)") == "42\n"
        server.call("DELETE", f"api/kernels/{kernel}")
        assert other.docker("ps", "--all", "--quiet").stdout == ""
    finally:
        server.end()
