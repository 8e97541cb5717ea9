"""How soon a kernel is there, how soon its first TensorFlow result, and how soon it is gone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from .apart import apart
from .contenders import COLD, FLOOR, GATEWAY, LOCAL, WARM
from .driving import started, timed
from .results import Result
from .rounds import Rounds
from .stage import Stage, kept_ready, one_ready

ORDER = (FLOOR, LOCAL, COLD, GATEWAY, WARM)


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Start one of each in turn; the place in a round moves on, so that none always follows the same."""
    result = Result("starts")
    async with kept_ready(stage.work):
        for number in rounds.warmed_up():
            # The first round only fills caches.
            told = result if number >= 0 else Result("")
            for contender in ORDER[number % len(ORDER) :] + ORDER[: number % len(ORDER)]:
                await one_ready()
                if contender == FLOOR:
                    await _floor(stage, told)
                elif contender == GATEWAY:
                    await apart("starts", contender, stage.work, told)
                else:
                    await one(contender, stage.work, told)
    return result


async def _floor(stage: Stage, told: Result) -> None:
    command = ("docker", "run", "--rm", stage.makings.image, "true")
    began = time.perf_counter()
    container = await asyncio.create_subprocess_exec(*command)
    assert await container.wait() == 0
    told.add("start to kernel_info", FLOOR, time.perf_counter() - began)


async def one(contender: str, work: Path, told: Result) -> None:
    """Start a contender's kernel in a folder, and note how long each step took."""
    began = time.perf_counter()
    async with started(contender, work) as (driven, seconds):
        told.add("start to kernel_info", contender, seconds)
        await driven.first_result()
        told.add("start to the first TensorFlow result", contender, time.perf_counter() - began)
        driven.client.stop_channels()
        told.add("shutdown", contender, await timed(driven.manager.shutdown_kernel()))
