"""A contender measured in a process of its own, as JSON: ``python -m bench.alone MEASUREMENT CONTENDER FOLDER``.

gateway_provisioners listens for its kernels in the background of the process that it is used in, which keeps waiting
whatever else that process does: 0.2 s at each start and 20 ms at each round trip, seen with it and without. So it has a
process for itself (:mod:`bench.apart`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from . import messages, restarts, starts
from .driving import started
from .results import Result


async def main(measurement: str, contender: str, work: Path) -> None:
    """Measure a contender in a folder, and print its samples; what comes first finds everything loaded."""
    told = Result("")
    if measurement == "starts":
        await starts.one(contender, work, Result(""))
        await starts.one(contender, work, told)
    elif measurement == "restarts":
        async with started(contender, work) as (driven, _):
            await driven.first_result()
            await restarts.anew(driven, told)
    else:
        async with started(contender, work) as (driven, _):
            await driven.output(messages.PRINTING)
            await messages.one(driven, contender, told)
    print(json.dumps({workload: samples[contender] for workload, samples in told.series.items()}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
