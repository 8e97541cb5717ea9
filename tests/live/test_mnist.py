"""The main job: the MNIST example on real TensorFlow, in an image that had no ipykernel."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.images import recipes

from .conftest import install
from .driving import kernel

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/mnist_mlp.ipynb"


@pytest.mark.timeout(900)
def test_the_example_trains(kernels: Path, workspace: Path, tensorflow: str) -> None:
    """examples/mnist_mlp.ipynb reaches 97 % on the CPU, and keeps its pictures."""
    install(kernels.parents[1], "tfgpu", "--image", tensorflow, "--gpus", "none")
    output = workspace / "out.ipynb"
    subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", "execute", "examples/mnist_mlp.ipynb", "-o", str(output)],
        check=True,
        cwd=ROOT,
        timeout=840,
    )
    text = output.read_text()
    accuracy = re.search(r"test accuracy: ([\d.]+)", text)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.97
    assert "device: CPU:0" in text
    assert text.count("image/png") >= 2


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "versions"),
    [
        ("frozen:py36", "Python 3.6.15 · TensorFlow 2.1.0"),
        ("tf:py39", "Python 3.9.18 · TensorFlow 2.20"),
        ("tf:py311", "Python 3.11"),
    ],
)
async def test_it_trains_is_interrupted_and_completes(
    kernels: Path, workspace: Path, name: str, versions: str
) -> None:
    """On TensorFlows of six years, a training that is interrupted ends at once, and run again it learns well."""
    try:
        image = recipes.ensure(name)
    except recipes.RecipeUnavailable as why:
        pytest.skip(f"{name} {why}")
    install(kernels.parents[1], "tfgpu", "--image", image, "--gpus", "none")
    example: Any = nbformat.read(EXAMPLE, as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell.source for cell in example.cells if cell.cell_type == "code"]
    told: list[str] = []
    async with kernel(workspace) as driven:

        async def run(code: str, *, interrupt: bool = False) -> list[str]:
            updates: list[asyncio.Task[None]] = []
            heard: list[str] = []

            def hear(message: dict[str, Any]) -> None:
                content = message["content"]
                heard.append(content.get("text") or content.get("ename") or "")
                if interrupt and message["msg_type"] == "update_display_data" and not updates:
                    updates.append(asyncio.ensure_future(driven.manager.interrupt_kernel()))

            await driven.client.execute_interactive(code, output_hook=hear, timeout=600)
            await asyncio.gather(*updates)
            assert bool(updates) == interrupt, "the training showed no progress"
            return heard

        for cell in cells:
            if "model.fit(" in cell:
                assert "KeyboardInterrupt" in await run(cell, interrupt=True)
            told += await run(cell)
    text = "".join(told)
    assert versions in text
    accuracy = re.search(r"test accuracy: ([\d.]+)", text)
    assert accuracy is not None, text
    assert float(accuracy[1]) >= 0.97
