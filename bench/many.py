"""Many kernels of one server: how fast they start, what they weigh and cost while idle, how fast they go."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from tests.live.serving import serving

from . import processes
from .contenders import COLD, KERNELS
from .rest import Page
from .results import Result
from .socket_count import Counted, counting
from .stage import Stage

COUNTS: Final = (1, 10, 50, 100)
AT_ONCE: Final = 4
_OURS: Final = "label=io.tfgpu.kind=kernel"


async def measure(stage: Stage, rounds: int, counts: tuple[int, ...] = COUNTS, idle_seconds: float = 60.0) -> Result:
    """Start so many, let them idle, remove them; each number on a server of its own. ``rounds`` repeats all."""
    result = Result("many", facts={"idle seconds": idle_seconds, "starts at a time": AT_ONCE, "kernels": {}})
    engine = Path(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    door = stage.work.parent / "door.sock"
    with counting(engine, door) as counted:
        os.environ["DOCKER_HOST"] = f"unix://{door}"
        try:
            for _ in range(rounds):
                for number in counts:
                    result.facts["kernels"][str(number)] = await _one(stage, number, counted, idle_seconds, result)
        finally:
            os.environ["DOCKER_HOST"] = f"unix://{engine}"
    return result


async def _one(stage: Stage, number: int, counted: Counted, idle: float, result: Result) -> dict[str, Any]:
    with serving(stage.work) as server:
        page, pid = Page(server), server.process.pid
        await page.close(await page.open(KERNELS[COLD]))  # what a server loads at its first kernel
        await asyncio.sleep(5)
        alone = await _idle(pid, idle)
        places, failures = asyncio.Semaphore(AT_ONCE), 0

        async def start() -> dict[str, Any] | None:
            async with places:
                began = time.perf_counter()
                try:
                    session = await page.open(KERNELS[COLD])
                except Exception as error:
                    print(f"a start failed: {error}")
                    return None
                result.add("a start, 4 at a time", str(number), time.perf_counter() - began)
                return session

        began = time.perf_counter()
        sessions = await asyncio.gather(*(start() for _ in range(number)))
        started = time.perf_counter() - began
        failures = sum(session is None for session in sessions)
        await asyncio.sleep(5)
        counted.requests.clear()
        busy = await _idle(pid, idle)
        asked = dict(counted.requests)
        weight = await asyncio.to_thread(_weight)
        began = time.perf_counter()
        await asyncio.gather(*(page.close(session) for session in sessions if session))
        while await asyncio.to_thread(_containers):  # noqa: ASYNC110 - seen from outside, as a user would
            await asyncio.sleep(0.05)
        removed = time.perf_counter() - began
    return {
        "failures": failures,
        "starts per minute": round(60 * number / started, 1),
        "MiB per kernel": round(weight["kernels"] / number / 2**20, 1),
        "MiB per kernel of the engine's shim": round(weight["shims"] / number / 2**20, 1),
        "server's CPU, percent of a core": round(100 * busy, 2),
        "the same with no kernel": round(100 * alone, 2),
        "engine calls per minute and kernel": round(sum(asked.values()) / number * 60 / idle, 3),
        "engine calls while idle": asked,
        "seconds until all are removed": round(removed, 2),
    }


async def _idle(pid: int, seconds: float) -> float:
    """Return what share of a core the server took."""
    before, began = processes.cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (processes.cpu_seconds(pid) - before) / (time.perf_counter() - began)


def _containers() -> list[str]:
    listing = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", _OURS]
    return subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()


def _weight() -> dict[str, int]:
    """Return the proportional set size of what runs in our containers, and of the engine's process beside each."""
    made = _containers()
    asked = ["docker", "inspect", "-f", "{{.State.Pid}}", *made]
    pids = [int(pid) for pid in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()]
    parents = processes.parents()
    inside = sum(processes.weight_bytes(pid) for first in pids for pid in processes.family(first, parents))
    shims = {parents[pid] for pid in pids if pid in parents}
    return {"kernels": inside, "shims": sum(map(processes.weight_bytes, shims))}
