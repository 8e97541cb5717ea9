"""Which image packages are kept in, where a notebook has no lock yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nbformat
import pytest

from tfgpu_kernel import keeping, policy
from tfgpu_kernel.config import DEFAULT_IMAGE, KernelConfig
from tfgpu_kernel.engine.base import Engine, EngineInfo, ImageRecord
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import PolicyRefused
from tfgpu_kernel.image import ensure, presets
from tfgpu_kernel.policy import Policy
from tfgpu_kernel.progress import Report, unheard


class Asked(Exception):
    """Carries the image that was asked for."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an engine of which only the kind of its machine is asked, and stop at the first image."""

    async def info(self: DockerEngine) -> EngineInfo:
        return EngineInfo("27.0", "1.47", "linux", "x86_64", "here", "Debian", (), False, False, "/nowhere", 2, 2**33)

    async def present(reference: str, engine: Engine, config: KernelConfig, report: Report) -> ImageRecord:
        raise Asked(reference)

    monkeypatch.setattr(DockerEngine, "info", info)
    monkeypatch.setattr(ensure, "present", present)
    return DockerEngine("unix:///nowhere")


def keep(engine: Engine, image: str) -> None:
    """Keep a package in a notebook without a lock."""
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    base = KernelConfig(image=image)
    asyncio.run(keeping.keep(notebook, Path("/a.ipynb"), None, base, engine, unheard, add=["cowsay"]))


@pytest.mark.parametrize(
    ("image", "meant"),
    [
        ("auto", DEFAULT_IMAGE),
        (presets.PRESETS[1].name, presets.PRESETS[1].reference),
        ("mine/own:1", "mine/own:1"),
    ],
)
def test_the_image_is_the_one_that_a_start_takes(engine: Engine, image: str, meant: str) -> None:
    """``auto`` and a preset's name are no references: the engine is asked for what they mean."""
    with pytest.raises(Asked, match=meant):
        keep(engine, image)


def test_the_policy_binds_here_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that no kernel may have is not fetched for its packages either."""
    monkeypatch.setattr(policy, "load", lambda: Policy(images=("other/*",)))
    with pytest.raises(PolicyRefused, match="tensorflow/tensorflow"):
        keep(engine, "auto")
