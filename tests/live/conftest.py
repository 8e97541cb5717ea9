"""What live tests run on: a real engine, images made on the spot, and kernelspecs that name them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import recipes
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Engine

from . import gpu_machine
from .gpu_machine import Machine


def made(name: str) -> str:
    """Return a test image, or skip where this machine lacks what it is made from."""
    try:
        return recipes.ensure(name)
    except recipes.RecipeUnavailable as why:
        pytest.skip(f"{name} {why}")


@pytest.fixture(scope="session")
def slim() -> str:
    """Return a small image with Python and ipykernel, and no TensorFlow."""
    return recipes.ensure("slim")


@pytest.fixture(scope="session")
def tensorflow() -> str:
    """Return an image with TensorFlow on Python 3.11, and no ipykernel."""
    return recipes.ensure("tf:py311")


@pytest.fixture(scope="session")
def nvidia_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine with doubled GPUs, whose engine (the installed version) has the nvidia runtime."""
    with gpu_machine.running(tmp_path_factory.mktemp("m")) as made:
        yield made


@pytest.fixture
def kernels(tmp_path: Path, slim: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the kernelspec ``tfgpu`` of this test, visibly without a GPU; return its data folder."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "prefix/share/jupyter"))
    install(tmp_path / "prefix", "tfgpu", "--image", slim, "--gpus", "none")
    return tmp_path / "prefix/share/jupyter"


def install(prefix: Path, name: str, *settings: str) -> None:
    """Make a kernelspec by the package's own command.

    TFGPU_TEST_NETWORK is the network where a test names none: an engine of the tests' own may have no other.
    """
    network = os.environ.get("TFGPU_TEST_NETWORK", "")
    if network and "--network" not in settings:
        settings = (*settings, "--network", network)
    subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", "install", "--name", name, "--prefix", str(prefix), *settings],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a folder for notebooks."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Return the engine for looking at what the kernels left."""
    engine = find.engine()
    yield engine
    asyncio.run(engine.close())
    find.forget(engine)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail a test that leaves one of its containers or run folders behind."""
    yield
    listing = subprocess.run(
        ["docker", "ps", "--all", "--filter", "label=io.tfgpu.kind=kernel", "--format", "{{.Label \"io.tfgpu.run\"}}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert not [run for run in listing if run.startswith(str(tmp_path))]
    runtime = tmp_path / "runtime/tfgpu"
    assert not runtime.is_dir() or not os.listdir(runtime)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run this folder's coroutine tests in a loop of their own (pytest-jupyter's plugin has another)."""
    if not asyncio.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
