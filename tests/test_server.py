"""The server extension in a real jupyter_server: what it answers, and to whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel import launches, obituaries
from tfgpu_kernel.errors import GpuUnusable, KernelDied
from tfgpu_kernel.launches import Launch
from tfgpu_kernel.progress import Step

pytest_plugins = ["pytest_jupyter.jupyter_server"]
Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"tfgpu_kernel": True}}}


@pytest.fixture(autouse=True)
def no_obituaries() -> Iterator[None]:
    yield
    obituaries._recent.clear()


async def test_a_launch_is_shown_while_it_runs_and_after_it_failed(jp_fetch: Fetch, jp_root_dir: Any) -> None:
    """GET /tfgpu/launches names the notebook as the Contents API does, and keeps a failure's parts."""
    launch = Launch("k1", "tfgpu", f"{jp_root_dir}/sub/mnist.ipynb", restart=False)
    launches.enter(launch)
    launches.advance(launch, Step("downloading", "Pulling", done=1, total=4))
    [state] = json.loads((await jp_fetch("tfgpu", "launches")).body)["launches"]
    assert (state["path"], state["phase"], state["fraction"]) == ("sub/mnist.ipynb", "downloading", 0.25)
    assert state["ended"] is None
    error = GpuUnusable("No GPU.", "use tfcpu.", "nvidia-smi says no")
    launches.leave(launch, Step("failed", "No GPU."), error)
    await asyncio.sleep(0)
    [state] = json.loads((await jp_fetch("tfgpu", "launches")).body)["launches"]
    assert state["ended"] is not None
    assert state["failure"] == {
        "code": "gpu-unusable",
        "message": "No GPU.",
        "remedy": "use tfcpu.",
        "details": "nvidia-smi says no",
    }


async def test_delete_cancels_the_launching_task(jp_fetch: Fetch) -> None:
    """DELETE reaches the task that launches; once it is over there is nothing to cancel."""
    launch = Launch("k2", "tfgpu", "", restart=False)

    async def run() -> None:
        launches.enter(launch)
        try:
            await asyncio.sleep(60)
        finally:
            launches.leave(launch, Step("cancelled", "Cancelled"))

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    assert (await jp_fetch("tfgpu", "launches", "k2", method="DELETE")).code == 204
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(HTTPClientError) as refused:
        await jp_fetch("tfgpu", "launches", "k2", method="DELETE")
    assert refused.value.code == 404


async def test_a_death_is_told_with_its_account(jp_fetch: Fetch) -> None:
    """GET /tfgpu/deaths carries message, remedy and the last lines."""
    obituaries.publish(obituaries.Obituary("k3", "tfgpu", "", KernelDied("Out of memory.", "less.", "line")))
    [death] = json.loads((await jp_fetch("tfgpu", "deaths")).body)["deaths"]
    assert death["kernel_id"] == "k3"
    assert death["failure"]["message"] == "Out of memory."
