"""What passes between client and kernel: round trips, printed lines, a large display, small cells."""

from __future__ import annotations

import contextlib
import queue
import time

from .apart import apart
from .contenders import COLD, GATEWAY, LOCAL, OURS
from .driving import Driven, started, timed
from .results import Result
from .rounds import Rounds
from .stage import Stage

TRIPS, CELLS, LINES = 100, 1000, 20_000
BLOCKS = 60
"""How often the two that live all the time take turns at round trips: where the scheduler has put a kernel and its
client makes a third of a round trip's time, and changes every few seconds."""
PRINTING = f"for i in range({LINES}): print(i)"
DISPLAY = "from IPython.display import display\ndisplay({'text/plain': 'x' * 20_000_000}, raw=True)"


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Let kernels work in turn: two that live all the time, and one of others' in a process of its own each time."""
    result = Result("messages")
    async with started(LOCAL, stage.work) as (local, _), started(COLD, stage.work) as (ours, _):
        kernels: dict[str, Driven | None] = {LOCAL: local, OURS: ours, GATEWAY: None}
        for fresh in (local, ours):
            await fresh.output(PRINTING)
        for number in range(BLOCKS):
            pair = ((LOCAL, local), (OURS, ours))
            for contender, fresh in pair if number % 2 else pair[::-1]:
                await _trips(fresh, contender, result)
        for number in rounds:
            turn = number % len(kernels)
            for contender in (list(kernels) * 2)[turn : turn + len(kernels)]:
                driven = kernels[contender]
                if driven is None:
                    await apart("messages", contender, stage.work, result)
                else:
                    await one(driven, contender, result)
    return result


async def _trips(driven: Driven, contender: str, told: Result) -> None:
    for _ in range(TRIPS):
        told.add("round trip", contender, await timed(driven.info()))
    # Each came with two messages on iopub, whose queue takes a thousand.
    with contextlib.suppress(queue.Empty):
        while True:
            await driven.client.get_iopub_msg(timeout=0.05)


async def one(driven: Driven, contender: str, told: Result) -> None:
    """Let a kernel do each kind of work once, and note how long that takes."""
    await _trips(driven, contender, told)
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
