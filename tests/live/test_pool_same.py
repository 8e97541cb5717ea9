"""A kernel that waited is like one that was started: the same first cells say the same."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import jupyter_kernel_test
import pytest

from tfgpu_kernel import ahead, claim, quiet
from tfgpu_kernel.pool import Pool

from .conftest import install, made
from .driving import kernel
from .test_conformance import TestConformance as _Conformance
from .test_pool import container_of, keeping, one_ready

FIRST_CELLS = {
    "backend": """
import os
os.environ['KERAS_BACKEND'] = 'numpy'
import tensorflow as tf
try:
    print(tf.keras.backend.backend())
except ImportError as error:
    print('not here')""",
    "onednn": """
import os
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'
import tensorflow as tf
print(tf.__version__)""",
    "devices": """
import os
os.environ['CUDA_VISIBLE_DEVICES'] = ''
import tensorflow as tf
print(tf.config.list_physical_devices())""",
    "threads": """
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(2)
print(tf.config.threading.get_intra_op_parallelism_threads())""",
    "seeds": """
import random, tensorflow as tf
random.seed(1); tf.random.set_seed(1)
print(random.random(), tf.random.uniform((2,)).numpy())""",
    "precision": """
import tensorflow as tf
tf.keras.mixed_precision.set_global_policy('mixed_float16')
print(tf.keras.mixed_precision.global_policy().name)""",
    "log level": """
import os
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
import tensorflow as tf
print(tf.constant(1).numpy(), tf.get_logger().level)""",
    "legacy keras": """
import os
os.environ['TF_USE_LEGACY_KERAS'] = '1'
import tensorflow as tf
try:
    print(tf.keras.__version__)
except ImportError as error:
    print(error)""",
    "threads of libraries": """
%env OMP_NUM_THREADS=1
import os, tensorflow as tf
print([text for name, text in os.environ.items() if name.startswith('OMP_')])""",
    "xla": """
import os
os.environ['XLA_FLAGS'] = '--xla_dump_to=/tmp/dumped'
import tensorflow as tf
print(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1)).numpy(), len(os.listdir('/tmp/dumped')))""",
    "growth": """
import tensorflow as tf
for gpu in tf.config.list_physical_devices('GPU'):
    tf.config.experimental.set_memory_growth(gpu, True)
print(len(tf.config.list_physical_devices()))""",
    "plots": """
import matplotlib
matplotlib.use('svg')
import matplotlib.pyplot as plt
print(matplotlib.get_backend(), plt.get_fignums())""",
    "hash seed": """
import os, subprocess, sys
os.environ['PYTHONHASHSEED'] = '0'
import tensorflow as tf
print(subprocess.check_output([sys.executable, '-c', 'print(hash(str(1)))']))""",
    "numpy first": """
import numpy as np
import sys
print(np.arange(3).sum(), 'tensorflow' in sys.modules)
import os
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
import tensorflow as tf
print(tf.constant(1).numpy())""",
}
OF_2020 = {
    "precision": """
import tensorflow as tf
tf.keras.mixed_precision.experimental.set_policy('mixed_float16')
print(tf.keras.mixed_precision.experimental.global_policy().name)""",
    "xla": """
import os
os.environ['XLA_FLAGS'] = '--xla_dump_to=/tmp/dumped'
import tensorflow as tf
print(tf.function(lambda x: x + 1, experimental_compile=True)(tf.constant(1)).numpy())
print(len(os.listdir('/tmp/dumped')))""",
}
"""The same as TensorFlow 2.1 has them."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FIRST_CELLS)
@pytest.mark.parametrize("image", ["tf:py311", "frozen:py36"])
async def test_usual_first_cells_say_the_same(kernels: Path, workspace: Path, image: str, name: str) -> None:
    """A first cell has the same result in a kernel that had TensorFlow imported ahead, or a line says why not.

    Saved in the notebook, what the cell sets is foreseen, so that it has its effect.
    """
    install(kernels.parents[1], "tf", "--image", made(image), "--gpus", "none")
    code = (OF_2020 if image == "frozen:py36" else {}).get(name, FIRST_CELLS[name]).strip()
    notebook = workspace / "n.ipynb"
    nbformat = {"cells": [{"cell_type": "code", "source": code, "metadata": {}}], "nbformat": 4, "nbformat_minor": 4}
    notebook.write_text(json.dumps(nbformat | {"metadata": {}}))
    env = {"JPY_SESSION_NAME": str(notebook)}
    async with keeping() as kept:
        async with kernel(workspace, "tf", env=env) as driven:
            cold = await driven.run(code)
            ready = await one_ready(kept)
        async with kernel(workspace, "tf", env=env) as driven:
            assert container_of(driven) == ready.container
            assert _lines(await driven.run(code)) == _lines(cold)


@pytest.mark.nightly
async def test_what_can_not_be_foreseen_starts_cold(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """A saved cell that sets a variable in a way that can't be read (os.putenv) has no kernel that waited."""
    install(kernels.parents[1], "tf", "--image", tensorflow, "--gpus", "none")
    code = "import os\nos.putenv('TF_ENABLE_ONEDNN_OPTS', '0')\nimport tensorflow as tf\nprint(tf.__version__)"
    cells = [{"cell_type": "code", "source": code, "metadata": {}}]
    notebook = {"cells": cells, "nbformat": 4, "nbformat_minor": 4, "metadata": {}}
    (workspace / "n.ipynb").write_text(json.dumps(notebook))
    async with keeping() as kept:
        async with kernel(workspace, "tf"):
            ready = await one_ready(kept)
        env = {"JPY_SESSION_NAME": str(workspace / "n.ipynb")}
        async with kernel(workspace, "tf", env=env) as driven:
            assert container_of(driven) != ready.container
            assert "no effect" not in await driven.run(code)


@pytest.mark.nightly
async def test_variable_that_comes_too_late_is_told(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """Not foreseen, a variable that has no effect any more is told in the cell; after a restart it has it."""
    install(kernels.parents[1], "tf", "--image", tensorflow, "--gpus", "none")
    code = FIRST_CELLS["backend"].strip()
    async with keeping() as kept:
        async with kernel(workspace, "tf"):
            ready = await one_ready(kept)
        async with kernel(workspace, "tf") as driven:
            assert container_of(driven) == ready.container
            assert "KERAS_BACKEND has no effect here" in await driven.run(code)
            await one_ready(kept)
            await driven.restart()
            told = await driven.run(code)
            assert told.splitlines()[-1] != "tensorflow"
            assert "no effect" not in told


@pytest.mark.nightly
async def test_keras_finds_what_its_error_said_to_install(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """Installed by a cell, pydot is there for Keras after a restart, although Keras was imported ahead before."""
    install(kernels.parents[1], "tf", "--image", tensorflow, "--gpus", "none")
    ask = "from keras.src.utils import model_visualization as shown; print(shown.pydot)"
    put = "import sys\nopen(next(p for p in sys.path if p.startswith('/tfgpu/packages/')) + '/pydot.py', 'w').close()"
    async with (
        keeping() as kept,
        kernel(workspace, "tf", env={"JPY_SESSION_NAME": str(workspace / "n.ipynb")}) as driven,
    ):
        ready = await one_ready(kept)
        await driven.restart()
        assert container_of(driven) == ready.container
        assert "None" in (await driven.run(ask)).splitlines()
        await driven.run(put)
        await one_ready(kept)
        await driven.restart()
        assert "/pydot.py'" in await driven.run(ask)


@pytest.mark.nightly
@pytest.mark.parametrize("image", ["tf:py311", "frozen:py36"])
async def test_what_is_set_after_the_import_has_no_effect(kernels: Path, workspace: Path, image: str) -> None:
    """A saved notebook that sets variables after its import says the same in a kernel that waited, restarted or not."""
    install(kernels.parents[1], "tf", "--image", made(image), "--gpus", "none")
    code = (
        "import os, tensorflow as tf\nos.environ['KERAS_BACKEND'] = 'numpy'\nos.environ['TF_DETERMINISTIC_OPS'] = '1'\n"
        "print(tf.keras.backend.backend() if hasattr(tf.keras.backend, 'backend') else tf.keras.__name__)"
    )
    cells = [{"cell_type": "code", "source": code, "metadata": {}}]
    notebook = {"cells": cells, "nbformat": 4, "nbformat_minor": 4, "metadata": {}}
    (workspace / "n.ipynb").write_text(json.dumps(notebook))
    async with (
        keeping() as kept,
        kernel(workspace, "tf", env={"JPY_SESSION_NAME": str(workspace / "n.ipynb")}) as driven,
    ):
        cold = _lines(await driven.run(code))
        for _ in range(2):
            ready = await one_ready(kept)
            await driven.restart()
            assert container_of(driven) == ready.container
            assert _lines(await driven.run(code)) == cold


async def test_what_cells_installed_is_seen_by_what_looks_for_it(
    kernels: Path, workspace: Path, slim: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A package that a preloaded module looked for in vain starts the notebook cold; any other package does not."""
    caplog.set_level("INFO")
    (workspace / "heavy.py").write_text("try:\n    import extra\nexcept ImportError:\n    extra = None\n")
    preloaded = ("--preload", "heavy", "--env", f"PYTHONPATH={workspace}")
    install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", *preloaded)
    put = "import sys; p = next(p for p in sys.path if p.startswith('/tfgpu/packages/'))\n"
    async with keeping() as kept:
        async with kernel(workspace, env={"JPY_SESSION_NAME": str(workspace / "n.ipynb")}) as driven:
            ready = await one_ready(kept)
            await driven.run(put + "open(p + '/other.py', 'w').close()")
            await driven.restart()
            assert container_of(driven) == ready.container
            ready = await one_ready(kept)
            assert ready.lacking == ("extra",)
            await driven.run(put + "open(p + '/extra.py', 'w').close()")
            assert "heavy doesn't see extra" in await driven.run("import heavy; print(heavy.extra)")
            await driven.restart()
            assert container_of(driven) != ready.container
            assert "/extra.py'" in await driven.run("import heavy; print(heavy.extra)")
        assert "extra came before an import that looks for it" in caplog.text
        ahead._noted.clear()  # as in a server that begins
        async with kernel(workspace, env={"JPY_SESSION_NAME": str(workspace / "n.ipynb")}) as driven:
            assert container_of(driven) != ready.container
        assert "the modules imported ahead don't see extra, which cells have installed" in caplog.text


def _lines(told: str) -> list[str]:
    """Return what was printed, without times and addresses in TensorFlow's lines, in any order of the two streams."""
    volatile = r"[IWE]0000 \S+ +\d+ |^\d{4}-\d\d-\d\d \S+ |0x[0-9a-f]+"
    return sorted(re.sub(volatile, "", line) for line in told.splitlines() if line)


@pytest.fixture(scope="module")
def _pool_thread(tmp_path_factory: pytest.TempPathFactory, slim: str) -> Iterator[Pool]:
    """Keep a pool in another thread, as a server does beside a client that blocks."""
    folder = tmp_path_factory.mktemp("claimed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiet, "PATIENCE_SECONDS", 0.0)
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("JUPYTER_PATH", str(folder / "share/jupyter"))
        install(folder, "tfgpu", "--image", slim, "--gpus", "none")
        found: list[Pool] = []
        ready, over = threading.Event(), threading.Event()

        async def keep() -> None:
            async with keeping() as kept, kernel(Path.cwd()):
                found.append(kept)
                await one_ready(kept)
                ready.set()
                await asyncio.to_thread(over.wait)

        thread = threading.Thread(target=lambda: asyncio.run(keep()))
        thread.start()
        assert ready.wait(60)
        yield found[0]
        over.set()
        thread.join(60)


@pytest.mark.usefixtures("_pool_thread")
class TestClaimed(_Conformance):
    """What every kernel must do, by Jupyter's own tests, of one that waited."""

    @classmethod
    def setUpClass(cls) -> None:
        """Start the kernel that all tests share, and see that it was one that waited."""
        jupyter_kernel_test.KernelTests.setUpClass.__func__(cls)
        assert cls.km.provisioner._kernel.container in claim.taken_here


del _Conformance
