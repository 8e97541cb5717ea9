"""The wheel beside the oldest and the newest JupyterLab 4 and Notebook 7 that it is made for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, expect

from tests.images import recipes

from .conftest import tab
from .page import KERNEL_MS, Lab
from .serving import running

ROOT: Final = Path(__file__).parents[2]

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture
def lab(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path, browser: Browser) -> Iterator[Lab]:
    """Open a tab on what pip installs beside the wheel into an environment of its own."""
    wanted: str = request.param
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--prefer-binary", wanted, str(wheel)]
    subprocess.run(install, check=True, timeout=600)
    program = re.match(r"\w+", wanted)
    assert program
    made = Path(tempfile.mkdtemp(prefix="tfv-"))
    try:
        with running(made, command=("-m", program[0]), python=str(python)) as server:
            common: dict[str, Any] = {"gpus": "none", "network": "none"}
            server.kernelspec("slim", "Slim (Docker)", image=recipes.ensure("slim"), **common)
            server.notebook("smoke.ipynb", "1", kernel="slim")
            path = "lab?reset" if program[0] == "jupyterlab" else "notebooks/smoke.ipynb"
            yield from tab(server, browser, request, path=path)
            server.end_kernels()
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("lab", ["jupyterlab==4.2.*", "jupyterlab==4.*"], indirect=True, ids=["oldest", "newest"])
def test_jupyterlab(lab: Lab) -> None:
    """Launcher, kernel, cell, status bar, panel and container; the console tells of no error."""
    lab.launch("Slim (Docker)")
    lab.idle()
    works(lab)
    expect(lab.page.locator(".tfgpu-Status-button")).to_have_text("No GPU")
    lab.command("tfgpu:terminal")
    expect(lab.page.locator(".jp-Terminal:visible")).to_be_visible()


@pytest.mark.parametrize("lab", ["notebook==7.2.*", "notebook==7.*"], indirect=True, ids=["oldest", "newest"])
def test_notebook(lab: Lab) -> None:
    """A notebook's page: launch, cell and panel; the console tells of no error."""
    lab.idle()
    works(lab)


def works(lab: Lab) -> None:
    """Run a cell in the container, and open the panel."""
    expect(lab.banner).to_be_hidden()
    cell = lab.run("import os; print(os.environ['HOME'])")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("/tfgpu/home", timeout=KERNEL_MS)
    lab.command("tfgpu:open-panel")
    panel = lab.page.locator("#tfgpu-panel")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("There is no NVIDIA driver")
    expect(panel).to_contain_text(re.compile("Untitled|smoke"))
