"""Restarts on channels that the client already holds, as an open page does them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import Any

from .apart import apart
from .contenders import COLD, GATEWAY, LOCAL, WARM
from .driving import Driven, started
from .results import Result
from .rounds import Rounds
from .stage import Stage, is_ready, kept_ready, one_ready

EVERY_SECONDS = 20.0
_LINES = 20
_PRINTING = f"print('begin')\nfor i in range({_LINES}): print(i)\nprint('end')"


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Restart one of each in turn."""
    result = Result("restarts")
    async with (
        kept_ready(stage.work),
        started(LOCAL, stage.work) as (local, _),
        started(COLD, stage.work) as (cold, _),
        started(WARM, stage.work) as (warm, _),
    ):
        kernels = {LOCAL: local, COLD: cold, WARM: warm}
        for driven in kernels.values():
            await driven.first_result()
        for number in rounds.warmed_up():
            told = result if number >= 0 else Result("")
            for contender, driven in kernels.items():
                await one_ready()
                await _restart(driven, contender, told)
            await one_ready()
            await apart("restarts", GATEWAY, stage.work, told)
    return result


async def _restart(driven: Driven, contender: str, told: Result) -> None:
    ends: list[float] = []
    end = _end(driven)
    if end is not None:
        end.add_done_callback(lambda _: ends.append(time.perf_counter()))
    began = time.perf_counter()
    await driven.manager.restart_kernel()
    await driven.first_result()
    over = time.perf_counter()
    told.add("restart to the first TensorFlow result", contender, over - began)
    if ends:
        told.add("of that, after the old kernel's end", contender, over - ends[0])


async def anew(driven: Driven, told: Result) -> None:
    """Restart a kernel of gateway_provisioners: it has new ports afterwards, which channels don't follow."""
    began = time.perf_counter()
    await driven.manager.restart_kernel()
    driven.client.stop_channels()
    driven.client = driven.manager.client()
    driven.client.start_channels()
    await driven.first_result()
    told.add("restart to the first TensorFlow result", GATEWAY, time.perf_counter() - began)


def _end(driven: Driven) -> Future[Any] | None:
    kernel = getattr(driven.manager.provisioner, "kernel", None)
    return kernel.end if kernel is not None else None


async def measure_paced(stage: Stage, rounds: Rounds) -> Result:
    """Restart every twenty seconds, work a little each time, and count how often a kernel was ready."""
    result = Result("paced")
    done = ready = whole = 0
    async with kept_ready(stage.work), started(WARM, stage.work) as (driven, _):
        await driven.first_result()
        for _ in rounds:
            done += 1
            began = time.perf_counter()
            before = driven.manager.provisioner.container  # type: ignore[union-attr]
            ready += is_ready()
            await driven.manager.restart_kernel()
            assert driven.manager.provisioner.container != before  # type: ignore[union-attr]
            told = await driven.output(_PRINTING)
            text = "".join(content.get("text", "") for content in told)
            whole += text.split() == ["begin", *map(str, range(_LINES)), "end"]
            await driven.first_result()
            result.add("restart every 20 s, to the first TensorFlow result", WARM, time.perf_counter() - began)
            await asyncio.sleep(max(0.0, EVERY_SECONDS - (time.perf_counter() - began)))
    result.facts = {"restarts": done, "a kernel was ready": ready, "first cell's output whole": whole}
    return result
