"""``/tfgpu/doctor``: an examination runs beside the server, one at a time, and tells how far it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel.health import Examined, Tell, ladder
from tfgpu_kernel.health.findings import Finding
from tfgpu_kernel.server import doctor
from tfgpu_kernel.server.doctor import Doctor

pytest_plugins = ["pytest_jupyter.jupyter_server"]
Fetch = Callable[..., Awaitable[Any]]
BROKEN = Finding("driver", "kernel driver", "broken", "There is none.", "install it.")


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"tfgpu_kernel": True}}}


async def test_the_call_examines_this_machine(jp_fetch: Fetch) -> None:
    """Nothing is examined before it is asked for; then all rungs are told, with a text to paste."""
    state = json.loads((await jp_fetch("tfgpu", "doctor")).body)
    assert state["started"] is None and state["findings"] == []
    await jp_fetch("tfgpu", "doctor", method="POST", body="{}")
    deadline = time.monotonic() + 60
    while state["ended"] is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        state = json.loads((await jp_fetch("tfgpu", "doctor")).body)
    assert state["started"] <= state["ended"] and not state["looking"]
    names = {finding["name"] for finding in state["findings"]}
    assert names >= {"driver", *ladder.BELOW_CONTAINERS, "engine", "disk"}
    assert state["verdict"] in state["report"]


async def test_other_bodies_are_refused(jp_fetch: Fetch) -> None:
    """Whether a container is started is a yes or no, and nothing else."""
    for body in ('{"containers": "yes"}', "[]"):
        with pytest.raises(HTTPClientError) as refused:
            await jp_fetch("tfgpu", "doctor", method="POST", body=body)
        assert refused.value.code == 400


async def test_one_at_a_time_with_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while one is under way gets that one, with what it looks at and what it found by then."""
    go_on, told = asyncio.Event(), asyncio.Event()
    begun = []

    async def slow(engine: object, image: str, *, containers: bool, tell: Tell) -> Examined:
        begun.append(containers)
        tell("a container with a GPU", (BROKEN,))
        told.set()
        await go_on.wait()
        return Examined((BROKEN,), image)

    monkeypatch.setattr(doctor, "examine", slow)
    examiner = Doctor("tf2.17-gpu")
    examiner.start(containers=True)
    await told.wait()
    state = examiner.start(containers=False)
    assert begun == [True] and state.looking == "a container with a GPU" and state.findings == (BROKEN,)
    assert state.ended is None and state.image == "tensorflow/tensorflow:2.17.0-gpu"
    go_on.set()
    while examiner.state.ended is None:
        await asyncio.sleep(0.01)
    assert examiner.state.verdict == "To mend first: kernel driver."
    await examiner.close()


async def test_the_image_is_the_one_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What auto chooses here is known once the GPUs were seen; the next examination chooses anew."""
    asked = []

    async def seen(engine: object, image: str, **_: object) -> Examined:
        asked.append(image)
        return Examined((BROKEN,), "tensorflow/tensorflow:2.17.0-gpu")

    monkeypatch.setattr(doctor, "examine", seen)
    examiner = Doctor()
    for _ in range(2):
        examiner.start(containers=False)
        while examiner.state.ended is None:
            await asyncio.sleep(0.01)
        assert examiner.state.image == "tensorflow/tensorflow:2.17.0-gpu"
        assert "image tensorflow/tensorflow:2.17.0-gpu" in examiner.state.report
    assert asked == ["auto", "auto"]
    await examiner.close()


async def test_one_that_breaks_off_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in an examination, a page that waits for its end learns of it."""

    async def broken(*_: object, **__: object) -> Examined:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(doctor, "examine", broken)
    examiner = Doctor()
    examiner.start(containers=False)
    await asyncio.sleep(0.1)
    assert examiner.state.ended is not None and "broke off" in examiner.state.verdict
    await examiner.close()
