"""What an engine's restart, or a process's end, does to images that are completed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.doubles.bridge import bridged
from tests.images import recipes
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.image.ensure import ensure
from tfgpu_kernel.labels import KIND, KIND_WORKSHOP, OWNER, UID
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.progress import Step
from tfgpu_kernel.sweep import sweep

from .daemons import Faulty, faulty

COMPLETE = """
import asyncio
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine import find
from tfgpu_kernel.image.ensure import ensure
asyncio.run(ensure("{image}", find.engine(), KernelConfig(pull="never", packages=("tabulate", "networkx")), print))
"""


@pytest.mark.nightly
def test_a_completed_image_is_found_after_the_engine_restarts() -> None:
    """It is made once; when the engine was killed and started again it is found, and nothing is installed anew."""
    reference = recipes.ensure("exits")
    with bridged() as name, faulty(image=reference, bridge=name) as engine:
        first, told = asyncio.run(completed(engine, reference))
        assert "building" in told
        engine.kill()
        engine.start()
        again, told = asyncio.run(completed(engine, reference))
        assert again == first
        assert "building" not in told
        left = engine.daemon.docker("ps", "--all", "--quiet", "--filter", f"label={KIND}={KIND_WORKSHOP}")
        assert left.stdout == ""


async def completed(engine: Faulty, reference: str) -> tuple[str, set[str]]:
    """Complete an image on an engine; return the result's id and the phases that were told of."""
    told: list[Step] = []
    docker = DockerEngine(engine.daemon.host)
    try:
        ready = await ensure(reference, docker, KernelConfig(pull="never", extras=False), told.append)
    finally:
        await docker.close()
    return ready.record.id, {step.phase for step in told}


async def test_what_a_killed_process_was_completing_is_swept_away(engine: Engine, slim: str) -> None:
    """A workshop whose process is gone is removed by the next sweep; that of a living one stays."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMPLETE.format(image=slim)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := await workshops(engine, process.pid)):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[0]
            await asyncio.sleep(0.1)
        await sweep(engine, spare=True)
        assert await workshops(engine, process.pid) == found
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    await sweep(engine, spare=True)
    assert await workshops(engine, process.pid) == []


async def workshops(engine: Engine, pid: int) -> list[str]:
    """Return the containers in which a process works on an image."""
    found = await engine.list({KIND: KIND_WORKSHOP, UID: str(os.geteuid())})
    owners = {record.id: Owner.parse(record.labels[OWNER]) for record in found}
    return [made for made, owner in owners.items() if owner is not None and owner.pid == pid]
