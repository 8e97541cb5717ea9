"""Jupyter's own culling on kernels in containers, by a real server: what is culled is gone, with its GPU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.doubles.state import machine
from tfgpu_kernel import lease

from .gpu_machine import Machine, needs_own_engine
from .serving import TOKEN, Server, call, serving

pytestmark = [needs_own_engine, pytest.mark.nightly]

CULL = ("--MappingKernelManager.cull_idle_timeout=6", "--MappingKernelManager.cull_interval=1")


@pytest.fixture
def gpus(nvidia_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine with three GPUs, and a kernel that takes one for itself."""
    nvidia_machine.set(machine(3))
    nvidia_machine.install("alone", "--gpu-sharing", "exclusive", "--pool-size", "0")
    for name, value in nvidia_machine.env.items():
        monkeypatch.setenv(name, value)
    yield nvidia_machine
    nvidia_machine.clear()


def client(where: Machine, kernel_id: str) -> BlockingKernelClient:
    """Return a client past the server, which counts as no connection of a page's."""
    made = BlockingKernelClient(connection_file=str(where.folder / f"rt/kernel-{kernel_id}.json"))
    made.load_connection_file()
    made.start_channels()
    return made


async def connected(server: Server, kernel_id: str) -> Any:
    """Connect as a page does."""
    url = f"{server.url.replace('http', 'ws')}/api/kernels/{kernel_id}/channels"
    return await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {TOKEN}"}))


def held(where: Machine) -> int:
    """Return how many GPUs this machine's kernels hold."""
    return sum(holder.run.startswith(str(where.folder)) for holder in lease.holders())


@pytest.mark.parametrize("cull_connected", [False, True])
async def test_culling_frees_the_gpu_and_spares_work(gpus: Machine, cull_connected: bool) -> None:
    """An idle kernel goes, with container and GPU; a busy one stays, and one with a page unless cull_connected."""
    root = gpus.folder / "work"
    root.mkdir(exist_ok=True)
    options = (*CULL, f"--MappingKernelManager.cull_connected={cull_connected}")
    with serving(root, *options, log=Path(gpus.folder / "culling.log")) as server:

        async def begin() -> str:
            answer = await asyncio.to_thread(call, server, "POST", "/api/kernels", {"name": "alone"})
            return str(answer["id"])

        idle, busy, open_page = await begin(), await begin(), await begin()
        page = await connected(server, open_page)
        worker = client(gpus, busy)
        try:
            worker.execute("import time; time.sleep(60)")
            assert held(gpus) == len(gpus.kernels()) == 3
            left = {busy} if cull_connected else {busy, open_page}
            deadline = time.monotonic() + 60
            ids: set[str] = set()
            while ids != left and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
                listing = await asyncio.to_thread(call, server, "GET", "/api/kernels")
                ids = {kernel["id"] for kernel in listing}
            assert ids == left and idle not in ids, server.told()
            await asyncio.sleep(4)
            listing = await asyncio.to_thread(call, server, "GET", "/api/kernels")
            assert {kernel["id"] for kernel in listing} == left, "nothing else is culled afterwards"
            assert held(gpus) == len(gpus.kernels()) == len(left)
        finally:
            page.close()
            worker.stop_channels()
    assert held(gpus) == 0 and gpus.kernels() == []
