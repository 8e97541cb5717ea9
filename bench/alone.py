"""A contender's start in a process of its own, as JSON; of two starts the second, which finds everything loaded.

gateway_provisioners listens for its kernels in the background of the process that it is used in, which keeps waiting
whatever else that process starts: 0.2 s at each start, seen with it and without. So it has a process for itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from .results import Result
from .starts import one


async def main(contender: str, work: Path) -> None:
    """Start a contender in a folder twice, and print the seconds of the second start's steps."""
    await one(contender, work, Result(""))
    told = Result("")
    await one(contender, work, told)
    print(json.dumps({workload: samples[contender][0] for workload, samples in told.series.items()}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
