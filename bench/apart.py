"""Have a contender measured by a process of its own; :mod:`bench.alone` says why."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from .results import Result


async def apart(measurement: str, contender: str, work: Path, told: Result) -> None:
    """Measure a contender in a folder in another process, and note its samples."""
    command = (sys.executable, "-m", "bench.alone", measurement, contender, str(work))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    for workload, samples in json.loads(printed.splitlines()[-1]).items():
        told.add(workload, contender, *samples)
