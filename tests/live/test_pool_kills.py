"""Whoever takes a kernel may be killed at any moment of that: the kernel is somebody's, or gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfgpu_kernel import quiet

from .driving import kernel
from .test_pool import keeping, one_ready, until

_MOMENTS = {
    "asked": "waiting.Line.receive = die",
    "yours": "claim.waiting.Waiting.withdraw = staticmethod(die)",
    "withdrawn": "claim._hand_over = die",
    "owned": "claim._give_packages = die",
    "written": "original = claim.write_running\nclaim.write_running = lambda *given: (original(*given), die())",
    "before go": "original = waiting.Line.send\nwaiting.Line.send = lambda line, message: "
    "die() if 'go' in message else original(line, message)",
    "half moved": "Path.symlink_to = die",
    "moved": "original = RunFolder.replace\nRunFolder.replace = lambda *given: (original(*given), die())",
}
"""Where a claimer dies, by what it does there instead."""

_CLAIMER = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.live.driving import kernel
from tfgpu_kernel import claim, waiting
from tfgpu_kernel.runfolder import RunFolder

def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    if sys.argv[2] == "restart":
        async with kernel(Path(sys.argv[1])) as driven:
            print("started", flush=True)
            sys.stdin.readline()
            exec(sys.argv[3], globals())
            await driven.restart()
    exec(sys.argv[3], globals())
    async with kernel(Path(sys.argv[1])):
        pass

asyncio.run(main())
"""


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("what", ["start", "restart"])
async def test_claimer_killed_in_the_middle_leaves_nothing(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, what: str, moment: str
) -> None:
    """A claimer killed at any moment before *go* leaves no kernel: it ends itself, and another is made."""
    if what == "start" and "moved" in moment:
        pytest.skip("a start moves no run folder")
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
    async with keeping() as kept, kernel(workspace):
        await one_ready(kept)
        process = subprocess.Popen(
            [sys.executable, "-c", _CLAIMER, str(workspace), what, _MOMENTS[moment]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if what == "restart":
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "started\n"
        ready = await one_ready(kept)
        _, errors = await asyncio.to_thread(process.communicate, "\n", 120)
        assert process.returncode == -9, errors

        def there() -> bool:
            shown = ["docker", "ps", "--quiet", "--no-trunc"]
            return ready.container in subprocess.run(shown, capture_output=True, text=True, check=True).stdout

        await until(lambda: not there(), 45)
        await until(lambda: bool(kept.state()) and kept.state()[0].container != ready.container)
        assert os.path.exists(kept.state()[0].engine.partition("://")[2])
        async with kernel(workspace) as driven:
            assert await driven.run("print(1)") == "1\n"
    # The claimer's own first kernel is an orphan like that of any program that is killed.
    subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running"], check=True, capture_output=True
    )
