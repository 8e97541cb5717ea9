"""The server extension in a real jupyter_server: what it answers, and to whom."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tfgpu_kernel import launches, obituaries
from tfgpu_kernel.errors import GpuUnusable, KernelDied
from tfgpu_kernel.launches import Launch
from tfgpu_kernel.progress import Step
from tfgpu_kernel.server.joined import Joined

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
    launches.advance(launch, Step("resolving", "This image, because of that.", notice=True))
    launches.advance(launch, Step("downloading", "Pulling", done=1, total=4))
    [state] = json.loads((await jp_fetch("tfgpu", "launches")).body)["launches"]
    assert state["notices"] == ["This image, because of that."]
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
        "actions": ["start-on-cpu", "open-doctor"],
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


async def test_a_launch_that_is_over_is_not_cancelled() -> None:
    """Nor is what its task does next, where the launch ended after it was asked to stop and before it did."""
    launch = Launch("k3", "tfgpu", "", restart=False)

    async def run() -> str:
        launches.enter(launch)
        await asyncio.sleep(0)
        launches.leave(launch, Step("ready", "Ready"))
        await asyncio.sleep(0.01)  # as jupyter_client does
        return "listed"

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    assert launch.cancel()
    assert await task == "listed"
    assert not launch.cancel()


async def test_a_death_is_told_with_its_account(jp_fetch: Fetch, jp_root_dir: Any) -> None:
    """GET /tfgpu/deaths says whose kernel it was, with remedy and the last lines."""
    account = KernelDied("The kernel ran out of memory.", "less.", "line")
    obituaries.publish(obituaries.Obituary("k3", "tfgpu", f"{jp_root_dir}/sub/mnist.ipynb", account))
    [death] = json.loads((await jp_fetch("tfgpu", "deaths")).body)["deaths"]
    assert (death["kernel_id"], death["path"]) == ("k3", "sub/mnist.ipynb")
    assert death["failure"]["message"] == "The kernel of mnist.ipynb ran out of memory."
    assert death["failure"]["remedy"] == "less."


class Sessions:
    """Stands for jupyter_server's session manager: each session takes until ``done``."""

    kernel_manager = ("runs",)

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.ended: list[str] = []
        self.done = asyncio.Event()

    async def create_session(self, path: str, **asked: Any) -> dict[str, Any]:
        model = {"id": str(len(self.made)), "path": path, **asked}
        self.made.append(model)
        await self.done.wait()
        return dict(model)

    async def get_session(self, session_id: str) -> dict[str, Any]:
        return self.made[int(session_id)]

    async def update_session(self, session_id: str, path: str) -> None:
        self.made[int(session_id)]["path"] = path

    async def delete_session(self, session_id: str) -> None:
        self.ended.append(session_id)


async def test_a_notebook_asked_for_twice_is_launched_once() -> None:
    """A page reloaded in mid-launch, or just after, gets the kernel under way; other notebooks and kernels do not."""
    sessions = Sessions()
    joined = Joined(sessions, lambda name: name == "tfgpu")  # type: ignore[arg-type]

    def ask(path: str, name: str = "a.ipynb", kernel: str = "tfgpu", **more: Any) -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(joined(path=path, name=name, type="notebook", kernel_name=kernel, **more))

    left = ask("sub/1")
    await asyncio.sleep(0)
    left.cancel()
    again = ask("sub/2", kernel_id="wanted")
    others = [ask("3"), ask("sub/4", "b.ipynb"), ask("sub/5", kernel="python3"), ask("sub/6", kernel_id="runs")]
    sessions.done.set()
    first = await again
    assert (first["id"], first["path"]) == ("0", "sub/2")  # the path that the page knows it by
    assert "0" not in [(await other)["id"] for other in others]
    assert (await ask("sub/7"))["id"] == "0"  # no page has given it the notebook's own path
    sessions.made[0]["path"] = "sub/a.ipynb"
    assert (await ask("sub/8"))["id"] != "0"


async def test_a_kernel_chosen_again_while_it_starts_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page gives back what it gets for requests that it has given up; the last one's session goes on."""
    sessions = Sessions()
    joined = Joined(sessions, lambda _: True)  # type: ignore[arg-type]

    def ask(path: str, kernel: str = "tfgpu") -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(joined(path=path, name="a.ipynb", type="notebook", kernel_name=kernel))

    chosen = [ask("1"), ask("2"), ask("3", "tfcpu"), ask("4")]
    await asyncio.sleep(0)
    sessions.done.set()
    assert [(await one)["id"] for one in chosen] == ["0", "0", "1", "0"]
    for given_up in ("0", "0", "1"):
        await joined.delete(given_up)
    assert sessions.ended == ["1"]
    await joined.delete("0")
    assert sessions.ended == ["1", "0"]
    joined._hand_out("2")
    joined._hand_out("2")
    now = time.monotonic()
    monkeypatch.setattr("tfgpu_kernel.server.joined.time.monotonic", lambda: now + 11)
    await joined.delete("2")
    assert sessions.ended[-1] == "2"  # what was handed out long ago was not given up
