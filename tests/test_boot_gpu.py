"""What a kernel says of its GPU: the server's notice at the first cell, and that the GPU is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tfgpu_kernel.boot import gpu


class Shell:
    """The little of IPython's shell that is asked: events."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[..., Any]] = {}
        self.events = self

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Take a callback."""
        self.heard[name] = function


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Return a shell whose kernel has a GPU."""
    control = tmp_path / "nvidiactl"
    control.touch()
    monkeypatch.setattr(gpu, "CONTROL", str(control))
    monkeypatch.setattr(gpu, "LOOK_SECONDS", 0.05)
    made = Shell()
    gpu.install(made, str(tmp_path))
    yield made
    control.unlink(missing_ok=True)  # ends the thread


def test_the_servers_notice_comes_first(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the server left is said with the first cell, and once."""
    (tmp_path / gpu.NOTICE_FILE).write_text("tfgpu: on the CPU\n")
    for _ in range(2):
        shell.heard["pre_run_cell"](None)
        shell.heard["post_run_cell"](None)
    assert capsys.readouterr().err == "tfgpu: on the CPU\n"


@pytest.mark.parametrize("running", [True, False])
def test_a_lost_gpu_is_told(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], running: bool) -> None:
    """The loss goes into the output of the cell that runs, else of the next one, and is marked for the server."""
    shell.heard["pre_run_cell"](None)
    if not running:
        shell.heard["post_run_cell"](None)
    assert any(thread.name == "tfgpu-gpu" for thread in threading.enumerate())
    assert not (tmp_path / gpu.LOST_FILE).exists()
    (tmp_path / "nvidiactl").unlink()
    deadline = time.monotonic() + 5
    while any(thread.name == "tfgpu-gpu" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / gpu.LOST_FILE).exists()
    if not running:
        assert capsys.readouterr().err == ""
        shell.heard["pre_run_cell"](None)
    assert "has lost its GPU" in capsys.readouterr().err


def test_a_kernel_without_a_gpu_is_left_alone(shell: Shell, tmp_path: Path) -> None:
    """Where there was no device file at the first cell, nothing is looked for."""
    (tmp_path / "nvidiactl").unlink()
    shell.heard["pre_run_cell"](None)
    assert not any(thread.name == "tfgpu-gpu" for thread in threading.enumerate())
