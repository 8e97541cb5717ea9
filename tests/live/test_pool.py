"""Kernels that wait finished until a notebook wants one, in real containers."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tfgpu_kernel import quiet, waiting
from tfgpu_kernel.engine import find
from tfgpu_kernel.pool import Pool
from tfgpu_kernel.waiting import Waiting

from .conftest import install
from .driving import kernel


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def keeping() -> AsyncIterator[Pool]:
    """Keep kernels ready as a server does."""
    kept = Pool()
    kept.start()
    try:
        yield kept
    finally:
        await kept.stop()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.05)


async def one_ready(kept: Pool) -> Waiting:
    """Return the kernel that waits."""
    await until(lambda: bool(kept.state()), 120)  # a busy machine
    return kept.state()[0]


def container_of(driven: object) -> str:
    """Return the id of a kernel's container."""
    return str(driven.manager.provisioner._kernel.container)  # type: ignore[attr-defined]


async def test_second_start_takes_the_kernel_that_waits(kernels: Path, workspace: Path) -> None:
    """The first start is cold and makes the pool keep one; the next takes that, and it runs cells like any other."""
    async with keeping() as kept:
        async with kernel(workspace):
            ready = await one_ready(kept)
        async with kernel(workspace, env={"JPY_SESSION_NAME": "x", "MINE": "1"}) as driven:
            assert container_of(driven) == ready.container
            told = await driven.run("import os; print(os.getcwd(), os.environ['MINE'], _dh[0], __session__)")
            assert told == f"{workspace} 1 {workspace} x\n"


async def test_restart_takes_the_kernel_that_waits(kernels: Path, workspace: Path) -> None:
    """After a restart the client's channels reach the kernel that waited, under the old key."""
    async with keeping() as kept, kernel(workspace) as driven:
        ready = await one_ready(kept)
        await driven.run("old = 1")
        await driven.restart()
        assert container_of(driven) == ready.container
        assert "NameError" in await driven.run("old")
        await one_ready(kept)
        await driven.restart()
        assert await driven.run("print(2)") == "2\n"


@pytest.mark.parametrize("restarts", [20, pytest.param(200, marks=[pytest.mark.nightly, pytest.mark.timeout(2400)])])
async def test_first_cell_after_a_restart_loses_nothing(kernels: Path, workspace: Path, restarts: int) -> None:
    """Sent right after the restart on the channels that the client holds, the first cell's output arrives whole."""
    async with keeping() as kept, kernel(workspace) as driven:
        for number in range(restarts):
            ready = await one_ready(kept)
            await driven.manager.restart_kernel()
            told = await driven.run(f"print('begin {number}')\nfor i in range(20): print(i)\nprint('end')")
            assert told.replace("\n", " ") == f"begin {number} {' '.join(map(str, range(20)))} end "
            assert container_of(driven) == ready.container


async def test_what_differs_is_told_and_starts_cold(
    kernels: Path, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start with another environment that matters, or another folder mounted, takes no kernel made for others."""
    caplog.set_level("INFO")
    async with keeping() as kept, kernel(workspace):
        ready = await one_ready(kept)
        async with kernel(workspace, env={"TF_CPP_MIN_LOG_LEVEL": "3"}) as driven:
            assert container_of(driven) != ready.container
            assert await driven.run("import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])") == "3\n"
        assert "has another environment" in caplog.text
        await until(lambda: bool(kept.state()) and kept.state()[0].container != ready.container)
        other = workspace.parent / "other"
        other.mkdir()
        async with kernel(other) as driven:
            assert container_of(driven) != ready.container
        assert "has another set of mounts" in caplog.text


async def test_dead_kernel_is_replaced_and_never_handed_out(kernels: Path, workspace: Path) -> None:
    """A waiting kernel that is killed makes room for another; a start meanwhile is cold."""
    async with keeping() as kept, kernel(workspace):
        ready = await one_ready(kept)
        subprocess.run(["docker", "kill", ready.container], check=True, capture_output=True)
        async with kernel(workspace) as driven:
            assert container_of(driven) != ready.container
            assert await driven.run("print(1)") == "1\n"
        await until(lambda: bool(kept.state()) and kept.state()[0].container != ready.container)


async def test_waiting_kernel_ends_with_its_server(kernels: Path, workspace: Path) -> None:
    """A server that is killed leaves no kernel that waits: it ends by itself."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.live.driving import kernel\n"
        "from tests.live.test_pool import keeping, one_ready\n"
        "from tfgpu_kernel import quiet\n"
        "quiet.PATIENCE_SECONDS = 0\n"
        "async def main():\n"
        "    async with keeping() as kept, kernel(Path(sys.argv[1])):\n"
        "        print((await one_ready(kept)).container, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(workspace)], check=False, capture_output=True, text=True)
    container = done.stdout.strip()

    def state() -> str:
        shown = ["docker", "inspect", "-f", "{{.State.Status}}", container]
        return subprocess.run(shown, capture_output=True, text=True, check=False).stdout.strip()

    await until(lambda: state() != "running", 10)
    subprocess.run([sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running"], check=True, capture_output=True)


CLAIMER = """
import asyncio, os, sys
from pathlib import Path
from tests.live.driving import kernel
async def main():
    for _ in range(int(sys.argv[2])):
        async with kernel(Path(sys.argv[1])) as driven:
            print(driven.manager.provisioner._kernel.container, flush=True)
            assert await driven.run("import os; print(os.getpid() > 0)") == "True\\n"
asyncio.run(main())
"""


@pytest.mark.parametrize("claims", [24, pytest.param(200, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])])
async def test_many_processes_claim_at_once(kernels: Path, workspace: Path, slim: str, claims: int) -> None:
    """Four processes that claim at once from a pool of eight never get the same kernel, and none is lost."""
    install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", "--pool-size", "8")
    async with keeping() as kept, kernel(workspace):
        await until(lambda: len(kept.state()) == 8, 120)
        mine = {entry.container for entry in kept.state()}
        claimers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLAIMER, str(workspace), str(claims // 4), stdout=asyncio.subprocess.PIPE
            )
            for _ in range(4)
        ]
        outputs = await asyncio.gather(*(claimer.communicate() for claimer in claimers))
        assert [claimer.returncode for claimer in claimers] == [0] * 4
        taken = [line for output, _ in outputs for line in output.decode().split()]
        assert len(taken) == len(set(taken)) == claims
        assert mine & set(taken)
        # The kernel is the caller's only after "go": whoever is gone before has taken nothing.
        await one_ready(kept)
        run, entry = waiting.offered(find.engine())[0]
        answered = await waiting.connect(run, {"claim": {"env": {}, "unset": [], "cwd": "/", "key": None}})
        assert answered is not None
        answered[0].close()
        await until(lambda: not run.path.exists(), 30)
        assert entry.container not in {waiting.container for waiting in kept.state()}
