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
    (workspace / "sub").mkdir()
    chosen = ["--image", image, "--gpus", "none", "--preload", preload, "--workspace", str(workspace)]
    install(kernels.parents[1], "tfgpu", *chosen)


async def said(workspace: Path, code: str) -> tuple[str, str]:
    """Return what a first cell says in a subfolder, in a cold kernel and in one that waited."""
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
    (workspace / "sub/helper.py").write_text("def f(x): return x + 1\n")
    code = (
        "import multiprocessing as mp, helper\n"
        "with mp.get_context('spawn').Pool(2) as pool: print(pool.map_async(helper.f, range(3)).get(20))"
    )
    assert await said(workspace, code) == ("[1, 2, 3]\n", "[1, 2, 3]\n")


LOGGED = """
import logging
logging.basicConfig(level=logging.INFO)
import tensorflow as tf
tf.get_logger().warning('once')
"""


async def test_log_lines_come_once(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """After logging.basicConfig() TensorFlow's lines come once, by the handler that the cell has set up."""
    prepared(kernels, workspace, tensorflow, "tensorflow")
    cold, warm = await said(workspace, LOGGED)
    assert (cold.count("once"), warm.count("once")) == (1, 1), warm


OTHER_KERAS = """
import os, sys
os.makedirs('libs/keras', exist_ok=True)
open('libs/keras/__init__.py', 'w').write("__version__ = 'mine'")
open('libs/cycler.py', 'w').write("__version__ = 'mine'")
sys.path.insert(0, 'libs')
import keras, cycler
print(keras.__version__ == 'mine', cycler.__version__ == 'mine')
"""


async def test_other_version_on_the_path_is_told(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """A Keras that a cell puts first on sys.path can't take the place of what TensorFlow has: a line says so.

    After the restart it is the cell's. What doesn't hang on TensorFlow is the cell's at once.
    """
    prepared(kernels, workspace, tensorflow, "tensorflow")
    async with keeping() as kept:
        async with kernel(workspace / "sub") as driven:
            assert await driven.run(OTHER_KERAS) == "True True\n"
            ready = await one_ready(kept)
        async with kernel(workspace / "sub") as driven:
            assert container_of(driven) == ready.container
            told = await driven.run(OTHER_KERAS)
            assert "False True" in told.splitlines()
            assert "tensorflow was loaded ahead with the image's " in told
            await one_ready(kept)
            await driven.restart()
            assert await driven.run(OTHER_KERAS) == "True True\n"
