"""What a page gets: from the POST of a session to its first TensorFlow result, through jupyter_server."""

from __future__ import annotations

import time

from tests.live.serving import serving

from .contenders import COLD, KERNELS, LOCAL, WARM
from .rest import Page
from .results import Result
from .rounds import Rounds
from .stage import Stage, one_ready

ORDER = (LOCAL, COLD, WARM)


async def measure(stage: Stage, rounds: Rounds) -> Result:
    """Open one session of each kind in turn."""
    result = Result("served")
    with serving(stage.work) as server:
        page = Page(server)
        await page.close(await page.open(KERNELS[WARM]))
        for number in rounds.warmed_up():
            told = result if number >= 0 else Result("")
            for contender in ORDER[number % len(ORDER) :] + ORDER[: number % len(ORDER)]:
                await one_ready()
                began = time.perf_counter()
                session = await page.open(KERNELS[contender])
                told.add("POST to its answer", contender, time.perf_counter() - began)
                await page.first_result(session)
                told.add("POST to the first TensorFlow result", contender, time.perf_counter() - began)
                await page.close(session)
    return result
