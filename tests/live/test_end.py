"""What a notebook leaves unfinished when its kernel is shut down comes to the same end as in a kernel of the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager

from tfgpu_kernel import quiet

from .conftest import install
from .driving import Driven, kernel
from .test_pool import container_of, keeping, one_ready

LEAVING = """
import asyncio, atexit, builtins, logging, string, sys, threading, weakref
def left(name):
    file = open(name + '.left', 'w')
    file.write(name)
    return file
class Node: pass
class Deleted:
    def __init__(self, name): self.file = open(name + '.left', 'w')
    def __del__(self): self.file.write('deleted')
class Leaving:
    def __init__(self, name): self.file = left(name)
    def __call__(self, *anything): pass
shell = get_ipython()
a_global = left('global')
cycle = Node(); cycle.me = cycle; cycle.file = left('cycle')
deleted = Deleted('deleted')
deleted_cycle = Node(); deleted_cycle.me = deleted_cycle; deleted_cycle.it = Deleted('deleted cycle')
shell.mine = left('shell')
shell.kernel.mine = left('kernel')
shell.events.register('post_execute', Leaving('callback'))
shell.kernel.comm_manager.register_target('mine', Leaving('comm'))
shell.set_custom_exc((ZeroDivisionError,), Leaving('exception'))
shell.display_formatter.formatters['text/plain'].for_type(Node, Leaving('formatter'))
string.mine = left('module')
builtins.mine = left('builtins')
sys.mine = left('sys')
local = threading.local(); local.file = left('local')
logging.getLogger('mine').addHandler(logging.StreamHandler(left('log')))
weakref.finalize(cycle, left('finalized').write, ' and finalized')
atexit.register(left('at exit').write, ' and ended')
def generated():
    file = left('generator')
    try:
        yield
    finally:
        file.write(' and over')
generator = generated(); next(generator)
async def waiting():
    file = left('task')
    try:
        await asyncio.sleep(1000)
    finally:
        file.write(' and over')
task = asyncio.ensure_future(waiting())
await asyncio.sleep(0)
left('result')"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_SECONDS", 0.0)


async def _left(driven: Driven, folder: Path) -> dict[str, str]:
    """Run the cell, shut the kernel down as a user does, and return what it left."""
    folder.mkdir(exist_ok=True)
    told = await driven.run(f"%cd -q {folder}\n{LEAVING}")
    assert "Error" not in told, told
    await driven.manager.shutdown_kernel()
    return {file.stem: file.read_text() for file in folder.glob("*.left")}


async def test_what_is_left_open_ends_as_on_the_host(kernels: Path, workspace: Path, slim: str) -> None:
    """Files not closed, objects not deleted, generators not finished: on the host, started cold, and claimed."""
    manager = AsyncKernelManager(kernel_name="python3")
    assert "provisioner" not in str(manager.kernel_spec.metadata)  # type: ignore[union-attr]
    async with kernel(workspace, "python3") as driven:
        host = await _left(driven, workspace / "host")
    async with keeping() as kept:
        async with kernel(workspace) as driven:
            ready = await one_ready(kept)
            cold = await _left(driven, workspace / "cold")
        async with kernel(workspace) as driven:
            assert container_of(driven) == ready.container
            claimed = await _left(driven, workspace / "claimed")
    assert host["global"] == "global"
    assert host["finalized"] == "finalized and finalized"
    assert host["deleted cycle"] == "deleted"
    assert cold == host
    assert claimed == host


@pytest.mark.nightly
async def test_with_modules_imported_ahead_too(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """Where TensorFlow was imported ahead, what its functions and modules hold is ended, too."""
    install(kernels.parents[1], "tf", "--image", tensorflow, "--gpus", "none")
    async with keeping() as kept:
        async with kernel(workspace, "tf") as driven:
            ready = await one_ready(kept)
            await driven.run("import tensorflow as tf; tf.mine = open('tf.left', 'w'); tf.mine.write('module')")
            cold = await _left(driven, workspace / "cold")
        async with kernel(workspace, "tf") as driven:
            assert container_of(driven) == ready.container
            await driven.run("import tensorflow as tf; tf.mine = open('tf2.left', 'w'); tf.mine.write('module')")
            claimed = await _left(driven, workspace / "claimed")
    assert claimed == cold
    assert (workspace / "tf2.left").read_text() == (workspace / "tf.left").read_text() == "module"
