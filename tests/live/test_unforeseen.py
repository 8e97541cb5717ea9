"""What no door foresees, at any point of a start: one error, nothing left behind, and the next start works."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_pool import container_of, keeping, one_ready
from tfgpu_kernel import additions, launches, lease, quiet, vigil
from tfgpu_kernel.errors import NoSpace, TfgpuError

from .driving import kernel


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


def raising(error: Exception) -> Any:
    """Return a function that raises."""

    def function(*given: Any, **named: Any) -> Any:
        raise error

    return function


FULL = OSError(errno.EDQUOT, "Disk quota exceeded", "/home/x")
PREPARE = (additions, "prepare")


@pytest.mark.parametrize(
    ("where", "error", "kind"),
    [
        pytest.param(PREPARE, FULL, NoSpace, marks=pytest.mark.nightly, id="folder"),
        pytest.param(PREPARE, RuntimeError("a mistake"), TfgpuError, marks=pytest.mark.nightly, id="mistake"),
        pytest.param((vigil, "begin"), NoSpace("It is full.", "make room."), NoSpace, id="after it answered"),
    ],
)
async def test_a_start_fails_with_nothing_left(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, where: Any, error: Exception, kind: Any
) -> None:
    """No launch or key stays, no container or run folder (the fixtures look at those), and it can be tried again."""
    with monkeypatch.context() as here:
        here.setattr(*where, raising(error))
        with pytest.raises(kind, match="What to do"):
            async with kernel(workspace):
                pass
    assert launches.current() == ()
    assert not list((workspace.parent / "runtime").glob("kernel-*.json"))
    async with kernel(workspace) as driven:
        with monkeypatch.context() as here:
            here.setattr(*where, raising(error))
            with pytest.raises(kind):
                await driven.restart()
        await driven.restart()
        assert await driven.run("print(1)") == "1\n"


@pytest.mark.nightly
async def test_a_kernel_runs_whose_lease_can_not_be_bound(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine's shared memory is full it can't outlive its server; that is no reason not to run."""
    monkeypatch.setattr(lease, "bind", raising(FULL))
    monkeypatch.setattr("tfgpu_kernel.provisioner.TfgpuProvisioner._root_folder", lambda self: str(workspace))
    async with kernel(workspace) as driven:
        assert await driven.run("print(1)") == "1\n"


@pytest.mark.nightly
async def test_a_claim_that_fails_is_no_error(kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails by: the start is a cold one, and the kernel that was ready is gone with its folder."""
    notebook = {"JPY_SESSION_NAME": str(workspace / "x.ipynb")}
    async with keeping() as kept:
        async with kernel(workspace, env=notebook) as first:
            ready = await one_ready(kept)
            await first.run("import os; os.mkdir('/tfgpu/packages/p'); open('/tfgpu/packages/p/x', 'w').close()")
        monkeypatch.setattr(additions, "_copy", raising(subprocess.CalledProcessError(1, "cp")))
        async with kernel(workspace, env=notebook) as driven:
            assert container_of(driven) != ready.container
            assert await driven.run("print(1)") == "1\n"
            await kept.stop()
            assert len(list((workspace.parent / "runtime/tfgpu").iterdir())) == 1


