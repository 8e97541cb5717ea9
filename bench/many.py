"""Many kernels of one server: how fast they start, what they weigh and cost while idle, how fast they go."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from tornado.httpclient import HTTPClientError

from tests.live.serving import serving

from . import processes
from .contenders import COLD, KERNELS
from .rest import Page
from .results import Result
from .rounds import Rounds
from .socket_count import Counted, counting
from .stage import Stage

COUNTS: Final = (1, 10, 50, 100)
AT_ONCE: Final = 4
_SETTLE_SECONDS: Final = 5.0
_OURS: Final = "label=io.tfgpu.kind=kernel"


async def measure(stage: Stage, rounds: Rounds, counts: tuple[int, ...] = COUNTS, idle_seconds: float = 30.0) -> Result:
    """Start so many, let them idle, remove them; each number on a server of its own. ``rounds`` repeats all."""
    result = Result("many", facts={"idle seconds": idle_seconds, "starts at a time": AT_ONCE, "kernels": {}})
    engine = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    door = stage.work.parent / "door.sock"
    with counting(engine, door) as counted:
        os.environ["DOCKER_HOST"] = f"unix://{door}"
        try:
            for _ in rounds:
                for number in (0, *counts):
                    result.facts["kernels"][str(number)] = await _one(stage, number, counted, idle_seconds, result)
        finally:
            os.environ["DOCKER_HOST"] = f"unix://{engine}"
    return result


async def _one(stage: Stage, number: int, counted: Counted, idle: float, result: Result) -> dict[str, Any]:
    with serving(stage.work) as server:
        page = Page(server)
        await page.close(await page.open(KERNELS[COLD]))  # what a server loads at its first kernel
        counted.requests.clear()
        began = time.perf_counter()
        sessions = await _start(page, number, result)
        started = time.perf_counter() - began
        to_start = counted.requests.total()
        await asyncio.sleep(_SETTLE_SECONDS)
        counted.requests.clear()
        cpu = await _idle(server.process.pid, idle)
        asked = dict(counted.requests)
        told = {"server's CPU, percent of a core": round(100 * cpu, 2), "engine calls while idle": asked}
        if not number:
            return told
        weight = await asyncio.to_thread(_weight)
        began = time.perf_counter()
        await asyncio.gather(*(page.close(session) for session in sessions))
        while await asyncio.to_thread(_containers):  # noqa: ASYNC110 - seen from outside, as a user would
            await asyncio.sleep(0.05)
        return told | {
            "starts per minute": round(60 * number / started, 1),
            "failures": number - len(sessions),
            "engine calls for a start": round(to_start / number, 1),
            "MiB per kernel": round(weight["kernels"] / number / 2**20, 1),
            "MiB per kernel of the engine's process beside it": round(weight["shims"] / number / 2**20, 1),
            "engine calls per minute and kernel": round(sum(asked.values()) / number * 60 / idle, 3),
            "seconds until all are removed": round(time.perf_counter() - began, 2),
        }


async def _start(page: Page, number: int, result: Result) -> list[dict[str, Any]]:
    """Start so many, some at a time; return the sessions of those that did."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> dict[str, Any] | None:
        async with places:
            began = time.perf_counter()
            try:
                session = await page.open(KERNELS[COLD])
            except HTTPClientError as error:
                print(f"a start failed: {error}: {error.response.body if error.response else None!r}", flush=True)
                return None
            result.add("a start, 4 at a time", str(number), time.perf_counter() - began)
            return session

    return [session for session in await asyncio.gather(*(one() for _ in range(number))) if session]


async def _idle(pid: int, seconds: float) -> float:
    """Return what share of a core the server took."""
    before, began = processes.cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (processes.cpu_seconds(pid) - before) / (time.perf_counter() - began)


def _containers() -> list[str]:
    """Return the kernels' containers of this stage; the engine may have others."""
    here = os.environ["JUPYTER_RUNTIME_DIR"]
    form = '{{.ID}} {{.Label "io.tfgpu.run"}}'
    listing = ["docker", "ps", "--all", "--no-trunc", "--filter", _OURS, "--format", form]
    told = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in told.splitlines() if line.split()[1].startswith(here)]


def _weight() -> dict[str, int]:
    """Return the proportional set size of what runs in our containers, and of the engine's process beside each."""
    made = _containers()
    asked = ["docker", "inspect", "-f", "{{.State.Pid}}", *made]
    pids = [int(pid) for pid in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()]
    parents = processes.parents()
    inside = sum(processes.weight_bytes(pid) for first in pids for pid in processes.family(first, parents))
    shims = {parents[pid] for pid in pids if pid in parents}
    return {"kernels": inside, "shims": sum(map(processes.weight_bytes, shims))}
