"""A locked notebook's kernel is kept ready like any other, from its second start on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfgpu_kernel import quiet

from .driving import kernel
from .test_lock import CELLS, made, tfgpu
from .test_pool import container_of, keeping, one_ready


async def test_second_start_of_a_locked_notebook_is_warm(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a locked notebook has its locked image and environment, is not taken by one without the lock's
    variables, and is there as fast as for an unlocked one."""
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("XDG_DATA_HOME", str(workspace.parent / "data"))
    (workspace / "numbers.csv").write_text("1,2,3\n4,5,6\n")
    locked = made(workspace / "locked.ipynb", *CELLS)
    tfgpu("lock", locked, "--env", "TF_ENABLE_ONEDNN_OPTS=0")
    assert json.loads(locked.read_text())["metadata"]["tfgpu"]["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    plain = made(workspace / "plain.ipynb", *CELLS)
    seconds = {}
    for notebook in (plain, locked):
        env = {"JPY_SESSION_NAME": str(notebook)}
        async with keeping() as kept:
            async with kernel(workspace, env=env):
                ready = await one_ready(kept)
            async with kernel(workspace, env=env) as driven:
                assert container_of(driven) == ready.container
                told = await driven.run("import os; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))")
                assert told == ("0\n" if notebook is locked else "None\n")
                seconds[notebook.stem] = driven.manager.provisioner.facts()["seconds_to_ready"]  # type: ignore[attr-defined]
    print(seconds)
    assert seconds["locked"] < seconds["plain"] + 1
