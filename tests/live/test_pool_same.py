"""A kernel that waited is like one that was started: the same probes and the same first cells say the same."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import jupyter_kernel_test
import pytest

from tfgpu_kernel import claim, quiet
from tfgpu_kernel.pool import Pool

from .conftest import install
from .driving import kernel
from .test_conformance import TestConformance as _Conformance
from .test_pool import container_of, keeping, one_ready

PROBE = """
import os, sys, signal, threading, warnings, random
print(sorted((k, v) for k, v in os.environ.items() if k not in {'HOSTNAME', 'JPY_SESSION_NAME'}))
print(os.getcwd(), sys.argv, sys.path, os.environ.get('JPY_SESSION_NAME'), globals().get('__session__'))
print(sorted(t.name.split('-')[0] for t in threading.enumerate()))
print([(s, signal.getsignal(s).__class__.__name__) for s in (signal.SIGINT, signal.SIGTERM)])
print(sorted(n for n in sys.modules if n.partition('.')[0] in {'numpy', 'tensorflow', 'matplotlib', 'keras', 'h5py'}))
print(_ih, _oh, _dh, get_ipython().execution_count, list(get_ipython().history_manager.get_tail(5)))
print(sorted(n for n in globals() if not n.startswith('_')), os.umask(0o22))
print(sorted(os.listdir('/tfgpu/run')), [f[:2] for f in warnings.filters])
"""
"""Listed and explained in docs/warm.md, and left out: descriptors, and the standard library's modules."""

FIRST_CELLS = {
    "backend": "import os\\nos.environ['KERAS_BACKEND'] = 'numpy'\\nimport tensorflow as tf\\n"
    "try:\\n    print(tf.keras.backend.backend())\\nexcept ImportError as error:\\n    print('not here')",
    "onednn": "import os\\nos.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'\\nimport tensorflow as tf\\nprint(tf.__version__)",
    "devices": "import os\\nos.environ['CUDA_VISIBLE_DEVICES'] = ''\\nimport tensorflow as tf\\n"
    "print(tf.config.list_physical_devices())",
    "threads": "import tensorflow as tf\\ntf.config.threading.set_intra_op_parallelism_threads(2)\\n"
    "print(tf.config.threading.get_intra_op_parallelism_threads())",
    "seeds": "import random, tensorflow as tf\\nrandom.seed(1); tf.random.set_seed(1)\\n"
    "print(random.random(), tf.random.uniform((2,)).numpy())",
    "precision": "import tensorflow as tf\\ntf.keras.mixed_precision.set_global_policy('mixed_float16')\\n"
    "print(tf.keras.mixed_precision.global_policy().name)",
    "log level": "import os\\nos.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\\nimport tensorflow as tf\\n"
    "print(tf.constant(1).numpy(), tf.get_logger().level)",
    "legacy keras": "import os\\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\\nimport tensorflow as tf\\n"
    "try:\\n    print(tf.keras.__version__)\\nexcept ImportError as error:\\n    print(error)",
    "threads of libraries": "%env OMP_NUM_THREADS=1\\nimport os, tensorflow as tf\\n"
    "print(os.environ['OMP_NUM_THREADS'])",
    "xla": "import os\\nos.environ['XLA_FLAGS'] = '--xla_dump_hlo_as_text'\\nimport tensorflow as tf\\n"
    "print(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1)).numpy())",
    "growth": "import tensorflow as tf\\nfor gpu in tf.config.list_physical_devices('GPU'):\\n"
    "    tf.config.experimental.set_memory_growth(gpu, True)\\nprint(tf.config.list_logical_devices())",
    "plots": "import matplotlib\\nmatplotlib.use('svg')\\nimport matplotlib.pyplot as plt\\n"
    "print(matplotlib.get_backend(), plt.get_fignums())",
    "hash seed": "import os, subprocess, sys\\nos.environ['PYTHONHASHSEED'] = '0'\\nimport tensorflow as tf\\n"
    "print(subprocess.check_output([sys.executable, '-c', 'print(hash(str(1)))']))",
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


async def test_probes_say_the_same(kernels: Path, workspace: Path) -> None:
    """Environment, folder, arguments, threads, signals, modules, history and files are those of a cold one."""
    async with keeping() as kept:
        env = {"JPY_SESSION_NAME": str(workspace / "a.ipynb"), "MINE": "1"}
        async with kernel(workspace, env=env) as driven:
            cold = await driven.run(PROBE)
            ready = await one_ready(kept)
        async with kernel(workspace, env=env) as driven:
            assert container_of(driven) == ready.container
            assert await driven.run(PROBE) == cold


@pytest.mark.nightly
@pytest.mark.parametrize("name", FIRST_CELLS)
async def test_usual_first_cells_say_the_same(kernels: Path, workspace: Path, tensorflow: str, name: str) -> None:
    """A first cell has the same result in a kernel that had TensorFlow imported ahead, or a line says why not.

    Saved in the notebook, what the cell sets is foreseen, so that it has its effect.
    """
    install(kernels.parents[1], "tf", "--image", tensorflow, "--gpus", "none")
    code = FIRST_CELLS[name].replace("\\n", "\n")
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
    code = FIRST_CELLS["backend"].replace("\\n", "\n")
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


def _lines(told: str) -> list[str]:
    """Return what was printed, without the times in TensorFlow's log lines, and in any order of the two streams."""
    return sorted(re.sub(r"I0000 \S+ +\d+ ", "", line) for line in told.splitlines() if line)


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
        jupyter_kernel_test.KernelTests.setUpClass.__func__(cls)  # type: ignore[attr-defined]
        assert cls.km.provisioner._kernel.container in claim.taken_here


del _Conformance
