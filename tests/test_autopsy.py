"""What ended a kernel while no server was there, told by ``ps`` and by the next server alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.left_behind import GONE, Engine, kernel
from tfgpu_kernel import adopt, deaths, obituaries, runfolder
from tfgpu_kernel.cli import kernels
from tfgpu_kernel.engine.base import Exit
from tfgpu_kernel.owner import Owner

BEFORE = replace(Owner.current(), boot="before")


@pytest.mark.parametrize(
    ("owner", "end", "said"),
    [
        (BEFORE, Exit(255), "The machine was restarted, or lost its power, and the kernel ended with it."),
        (BEFORE, Exit(143), "The machine was restarted, or lost its power, and the kernel ended with it, it seems"),
        (BEFORE, Exit(9), "exit code 9"),
        (BEFORE, Exit(137, oom_killed=True), "ran out of memory"),
        (GONE, Exit(255), "The Docker engine was restarted"),
        (GONE, Exit(137), "signal 9 (SIGKILL)"),
    ],
)
def test_a_restart_of_machine_or_engine_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Owner, end: Exit, said: str
) -> None:
    """Docker notes 255 of what it finds ended as it starts; the owner's name says of which boot the kernel was."""
    monkeypatch.setattr(runfolder, "roots", lambda: (tmp_path,))
    engine: Any = Engine(kernel(tmp_path / "run", "k", tmp_path, owner), state="exited", end=end)
    [shown] = asyncio.run(kernels.known(engine))
    assert shown.state is not None
    assert said in shown.state.death
    assert asyncio.run(adopt.alive(engine, adopt.left(str(tmp_path)))) == []
    assert obituaries.recent()[-1].account.message == shown.state.death


def test_a_kill_from_outside_names_all_that_may_have_done_it() -> None:
    """Without a limit the machine's memory may be what ran out, which the engine can't tell by old control groups."""
    remedy = deaths.explain(Exit(137), "", image="tf", memory=None).remedy
    assert all(word in remedy for word in ("somebody", "engine was stopped", "ran out of memory", "dmesg"))
