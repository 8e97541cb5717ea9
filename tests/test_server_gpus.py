"""``GET /tfgpu/gpus``: the whole answer of made-up figures, and the call on a machine with no driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel import procfs
from tfgpu_kernel.attribution import Share, Usage
from tfgpu_kernel.gpu.history import History, Point
from tfgpu_kernel.gpu.nvml import FailedGpu, Gpu, Memory, MigDevice, Sample
from tfgpu_kernel.server.gpu_records import report
from tfgpu_kernel.server.roster import Resident, Warm
from tfgpu_kernel.server.sampler import Moment

pytest_plugins = ["pytest_jupyter.jupyter_server"]
Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"tfgpu_kernel": True}}}


def resident(kernel_id: str, container: str, *gpus: str) -> Resident:
    """Return an idle kernel of a notebook."""
    return Resident(kernel_id, "tfgpu", f"{kernel_id}.ipynb", "notebook", "idle", 61.04, container, gpus)


def test_the_whole_answer() -> None:
    """GPUs, holders by kernel, the pool, other processes, what was lost, kernels and history, each in its place."""
    sample = Sample(
        "580.1",
        (Gpu(0, "GPU-0", "A100", (8, 0), Memory(100, 60, 30, 10), 37),),
        (FailedGpu(1, "a GPU has fallen off the bus"),),
        (13, 0),
    )
    usage = Usage((Share("c1", 30, 2), Share("w", 9, 1), Share("gone", 1, 1)), others_bytes=20, others=3)
    moment = Moment(
        50.0, sample, usages={"GPU-0": usage}, memory={"c1": procfs.Memory(5, 8), "w": procfs.Memory(2, None)}
    )
    history = History(2)
    history.add(48, {"GPU-0": Point(30, 55)})
    history.add(50, {"GPU-0": Point(37, 60)})
    residents = [resident("k1", "c1", "GPU-0"), resident("k2", "")]
    answer = asdict(report(moment, residents, [Warm("w")], history, 48, 2.0))
    assert answer == {
        "time": 50.0,
        "every_seconds": 2.0,
        "driver": "580.1",
        "cuda": "13.0",
        "no_gpu": None,
        "gpus": (
            {
                "index": 0,
                "uuid": "GPU-0",
                "name": "A100",
                "use_percent": 37,
                "memory": {"total_bytes": 100, "used_bytes": 60, "free_bytes": 30, "reserved_bytes": 10},
                "holders": {
                    "kernels": ({"kernel_id": "k1", "used_bytes": 30, "processes": 2},),
                    "warm": {"used_bytes": 9, "processes": 1},
                    "others": {"used_bytes": 21, "processes": 4},
                },
                "mig": (),
            },
        ),
        "lost": ({"index": 1, "cause": "a GPU has fallen off the bus"},),
        "sees_processes": True,
        "kernels": (
            {
                "kernel_id": "k1",
                "kernel_name": "tfgpu",
                "path": "k1.ipynb",
                "kind": "notebook",
                "state": "idle",
                "idle_seconds": 61.0,
                "in_container": True,
                "gpus": ("GPU-0",),
                "memory": {"used_bytes": 5, "limit_bytes": 8},
            },
            {
                "kernel_id": "k2",
                "kernel_name": "tfgpu",
                "path": "k2.ipynb",
                "kind": "notebook",
                "state": "idle",
                "idle_seconds": 61.0,
                "in_container": False,
                "gpus": (),
                "memory": None,
            },
        ),
        "warm": {"count": 1, "memory_bytes": 2},
        "history": {"times": (50,), "gpus": {"GPU-0": {"use_percent": (37,), "used_bytes": (60,)}}},
    }


def test_mig_devices_tell_and_the_unseen_is_null() -> None:
    """A MIG device has holders of its own; where process ids are foreign, nobody is named."""
    mig = MigDevice("MIG-1", "1g.5gb", Memory(50, 4, 46, 0), {7: 4})
    gpu = Gpu(0, "GPU-0", "A100", None, None, None, mig_mode=True, mig_devices=(mig,))
    usages = {"GPU-0": None, "MIG-1": Usage((Share("c1", 4, 1),))}
    moment = Moment(1, Sample("1", (gpu,)), usages=usages)
    [state] = report(moment, [resident("k1", "c1")], [], History(2), 0, 2).gpus
    assert state.holders is None and state.mig[0].holders is not None
    assert state.mig[0].holders.kernels[0].kernel_id == "k1"
    blind = Moment(1, Sample("1", (gpu,)), usages=usages, sees_processes=False)
    assert report(blind, [], [], History(2), 0, 2).gpus[0].mig[0].holders is None


def test_a_driver_with_no_gpu_says_so() -> None:
    """A driver that answers and lists nothing is a reason of its own."""
    told = report(Moment(1, Sample("1", ())), [], [], History(2), 0, 2)
    assert told.no_gpu and "sees no GPU" in told.no_gpu.message


async def test_no_driver_is_told_with_its_remedy(jp_fetch: Fetch) -> None:
    """On a machine with no driver the call answers, with the reason where figures would be."""
    answer = json.loads((await jp_fetch("tfgpu", "gpus", params={"since": "12.5"})).body)
    assert answer["gpus"] == [] and answer["driver"] is None
    assert answer["no_gpu"]["message"].startswith("There is no NVIDIA driver")
    assert "doctor" in answer["no_gpu"]["remedy"]


async def test_a_time_that_is_none_is_refused(jp_fetch: Fetch) -> None:
    """A since that is no number is the caller's error, not the server's."""
    with pytest.raises(HTTPClientError) as refused:
        await jp_fetch("tfgpu", "gpus", params={"since": "yesterday"})
    assert refused.value.code == 400


async def test_only_kernels_of_ours_are_moved(jp_fetch: Fetch) -> None:
    """A kernel that isn't there is not found, and a body that names no GPU is refused."""
    for body, code in (('{"gpus": ["GPU-1"]}', 404), ('{"gpus": []}', 400), ("[1]", 400)):
        with pytest.raises(HTTPClientError) as refused:
            await jp_fetch("tfgpu", "kernels", "k1", "gpus", method="PUT", body=body)
        assert refused.value.code == code


async def test_a_change_is_hinted(jp_fetch: Fetch, jp_serverapp: Any) -> None:
    """The event has a schema that it fits, so whoever listens gets it."""
    heard: list[str] = []

    async def hear(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        heard.append(schema_id)

    event = "urn:tfgpu-kernel:gpus:v1"
    jp_serverapp.event_logger.add_listener(schema_id=event, listener=hear)
    [app] = jp_serverapp.extension_manager.extension_apps["tfgpu_kernel"]
    app._sampler._changed()
    await asyncio.sleep(0.05)
    assert heard == [event]
