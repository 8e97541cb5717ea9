"""What passes between client and kernel: round trips, printed lines, a large display, small cells."""

from __future__ import annotations

import time

from .contenders import COLD, GATEWAY, LOCAL, OURS
from .driving import Driven, started, timed
from .results import Result
from .rounds import Rounds
from .stage import Stage

TRIPS, CELLS, LINES = 100, 1000, 20_000
PRINTING = f"for i in range({LINES}): print(i)"
DISPLAY = "from IPython.display import display\ndisplay({'text/plain': 'x' * 20_000_000}, raw=True)"


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Let kernels that all live at once work in turn."""
    result = Result("messages")
    async with (
        started(LOCAL, stage.work) as (local, _),
        started(GATEWAY, stage.work) as (gateway, _),
        started(COLD, stage.work) as (ours, _),
    ):
        kernels = [(LOCAL, local), (GATEWAY, gateway), (OURS, ours)]
        for _, driven in kernels:
            await driven.output(PRINTING)
        for number in rounds:
            for contender, driven in kernels[number % 3 :] + kernels[: number % 3]:
                await _one(driven, contender, result)
    return result


async def _one(driven: Driven, contender: str, told: Result) -> None:
    for _ in range(TRIPS):
        told.add("round trip", contender, await timed(driven.info()))
    began = time.perf_counter()
    heard = await driven.output(PRINTING)
    told.add("20,000 printed lines", contender, time.perf_counter() - began)
    text = "".join(content.get("text", "") for content in heard)
    assert text.count("\n") == LINES, f"{contender} lost output"
    began = time.perf_counter()
    heard = await driven.output(DISPLAY)
    told.add("a display of 20 MB", contender, time.perf_counter() - began)
    assert any(len(content.get("data", {}).get("text/plain", "")) == 20_000_000 for content in heard)
    began = time.perf_counter()
    for number in range(CELLS):
        await driven.output(f"x = {number}")
    told.add("1000 small cells", contender, time.perf_counter() - began)
