"""Trouble with the engine is not a kernel's death; where it is, one message says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.conftest import install
from tests.live.driving import Driven, kernel
from tfgpu_kernel import autopsy, obituaries
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Engine, EngineInfo
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import TfgpuError
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.server.pulse import answers

from .daemons import Faulty, faulty
from .lag import measured


@asynccontextmanager
async def kernel_on(
    engine: Faulty, kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Driven]:
    """Start a kernel on an engine of the test's own."""
    monkeypatch.setenv("DOCKER_HOST", engine.daemon.host)
    install(kernels.parents[1], "alone", "--image", slim, "--gpus", "none", "--network", "none")
    try:
        async with kernel(workspace, "alone") as driven:
            yield driven
    finally:
        shared = find.engine()
        await shared.close()
        find.forget(shared)
        monkeypatch.undo()


async def round_trips(driven: Driven, seconds: float) -> int:
    """Run cells for a time; return how many gave the right answer (each must)."""
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        assert await driven.run(f"print({done})") == f"{done}\n"
        assert await driven.manager.is_alive()
        done += 1
    return done


@pytest.mark.nightly
async def test_a_killed_daemon_with_live_restore(
    kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dockerd is killed and comes back, live-restore on: no round trip fails, and the kernel can be interrupted."""
    with faulty("--live-restore", image=slim) as engine:
        async with kernel_on(engine, kernels, workspace, slim, monkeypatch) as driven:
            async with measured() as lag:
                await asyncio.to_thread(engine.kill)
                done = await round_trips(driven, 4)
                await asyncio.to_thread(engine.start)
                again = await round_trips(driven, 3)
            lag.check()
            cell = asyncio.ensure_future(driven.run("import time; time.sleep(60)"))
            await asyncio.sleep(0.5)
            await driven.manager.interrupt_kernel()
            assert await cell == "KeyboardInterrupt"
            assert done > 4 and again > 4
            print(f"{done} + {again} round trips, 0 failed")


@pytest.mark.nightly
async def test_what_a_power_cut_leaves_is_told_as_that(slim: str) -> None:
    """All ends at once, containers too, and nobody watches: Docker notes 255 as it starts, which is no signal 127."""
    with faulty(image=slim) as engine:
        started = engine.daemon.docker("run", "--detach", "--network=none", slim, "sleep", "600")
        box = started.stdout.strip().splitlines()[-1]
        main = int(engine.daemon.docker("inspect", "--format", "{{.State.Pid}}", box).stdout)
        shim = int(Path(f"/proc/{main}/stat").read_text().rpartition(")")[2].split()[1])
        await asyncio.to_thread(engine.kill)
        for pid in (shim, main):
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(engine.start)
        door = DockerEngine(engine.daemon.host)
        try:
            end = await door.exit_status(box)
            assert end is not None and end.code == 255
            told = [
                await autopsy.of_container(box, slim, False, owner, door)
                for owner in (replace(Owner.current(), boot="before"), Owner.current())
            ]
        finally:
            await door.close()
    assert [str(account).split(",")[0] for account in told] == [
        "The machine was restarted", "The Docker engine was restarted"
    ]  # fmt: skip


@pytest.mark.nightly
async def test_a_killed_daemon_without_live_restore(
    kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without live-restore the daemon ends its containers when it comes back: one message says so, and the remedy."""
    with faulty(image=slim) as engine:
        async with kernel_on(engine, kernels, workspace, slim, monkeypatch) as driven:
            async with measured() as lag:
                await asyncio.to_thread(engine.kill)
                await round_trips(driven, 2)
                await asyncio.to_thread(engine.start)
                began = time.monotonic()
                while await driven.manager.is_alive():
                    assert time.monotonic() - began < 20
                    await asyncio.sleep(0.1)
            lag.check()
            told = obituaries.recent()[-1]
            print(f"told after {time.monotonic() - began:.1f} s: {told.account.message}")
            assert "engine was restarted" in told.account.message
            assert "live-restore" in told.account.remedy
            assert [one for one in obituaries.recent() if one.kernel_id == told.kernel_id] == [told]


async def test_a_hung_daemon(kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """dockerd hangs: unknown counts as alive, cells run, the loop isn't held up, and the status says so."""
    with faulty(image=slim) as engine:
        async with kernel_on(engine, kernels, workspace, slim, monkeypatch) as driven:
            with engine.hung():
                assert not await answers(engine.daemon.host, 1)
                async with measured() as lag:
                    done = await round_trips(driven, 4)
            assert await answers(engine.daemon.host, 3)
            print(f"{done} round trips, 0 failed")
            assert done > 4
            lag.check()


async def test_what_an_engine_is_is_known_until_it_changes() -> None:
    """While the engine's events go on it isn't asked again what it is; a reload and a restart are noticed."""
    with faulty("--live-restore") as faults:
        engine = DockerEngine(faults.daemon.host)
        engine.watch("0" * 64)  # whoever watches a container follows the events
        try:
            while (await engine.info()) is not await engine.info():
                await asyncio.sleep(0.05)
            runtimes = {"runtimes": {"another": {"path": "/bin/true"}}}
            (faults.daemon.folder / "daemon.json").write_text(json.dumps(runtimes))
            os.kill(faults.pid, signal.SIGHUP)
            await until(engine, lambda info: "another" in info.runtimes)
            (faults.daemon.folder / "daemon.json").write_text("{}")
            faults.kill()
            faults.start()
            await until(engine, lambda info: "another" not in info.runtimes)
        finally:
            await engine.close()


async def until(engine: Engine, true: Callable[[EngineInfo], bool]) -> None:
    """Wait until the engine says something of itself."""
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(TfgpuError):
            if true(await engine.info()):
                return
        assert time.monotonic() < end, "it never said so"
        await asyncio.sleep(0.05)
