"""A kernel that waited finds the modules that a cold one finds: beside the notebook, and where cells say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfgpu_kernel import quiet

from .conftest import install
from .driving import kernel
from .test_pool import container_of, keeping, one_ready

pytestmark = pytest.mark.nightly


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


def prepared(kernels: Path, workspace: Path, image: str, preload: str) -> None:
    """Make the kernelspec of a server whose root is the workspace."""
    chosen = ["--image", image, "--gpus", "none", "--preload", preload, "--workspace", str(workspace)]
    install(kernels.parents[1], "tfgpu", *chosen)


async def said(workspace: Path, code: str) -> tuple[str, str]:
    """Return what a first cell says in a subfolder, in a cold kernel and in one that waited."""
    (workspace / "sub").mkdir(exist_ok=True)
    async with keeping() as kept:
        async with kernel(workspace / "sub") as driven:
            cold = await driven.run(code)
            ready = await one_ready(kept)
        async with kernel(workspace / "sub") as driven:
            assert container_of(driven) == ready.container
            return cold, await driven.run(code)


async def test_spawned_processes_find_modules_beside_the_notebook(kernels: Path, workspace: Path, slim: str) -> None:
    """What was imported ahead (TensorFlow imports multiprocessing) doesn't keep them in the workspace's root."""
    prepared(kernels, workspace, slim, "multiprocessing")
    (workspace / "sub").mkdir()
    (workspace / "sub/helper.py").write_text("def f(x): return x + 1\n")
    code = (
        "import multiprocessing as mp, helper\n"
        "with mp.get_context('spawn').Pool(2) as pool: print(pool.map_async(helper.f, range(3)).get(20))"
    )
    assert await said(workspace, code) == ("[1, 2, 3]\n", "[1, 2, 3]\n")
