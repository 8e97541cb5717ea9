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
ENVIRONMENTS: Final = ROOT / ".cache/versions"

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

NOTE_PROGRESS: Final = """
window.progressSeen = new Set();
new MutationObserver(() => {
    for (const shown of document.querySelectorAll('.tfgpu-Progress-text')) {
        window.progressSeen.add(shown.textContent);
    }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
"""A launch without a pull is over before a test has looked: the page itself notes what it shows of it."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    [built] = folder.glob("*.whl")
    return built


def environment(wanted: str, wheel: Path) -> Path:
    """Return the Python of an environment in which pip has installed this beside the wheel; kept for the next time."""
    folder = ENVIRONMENTS / re.sub(r"[^\w.]+", "-", wanted).strip("-.")
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--prefer-binary", "--upgrade"]
    subprocess.run([*install, wanted, str(wheel)], check=True, timeout=600)
    subprocess.run([*install, "--force-reinstall", "--no-deps", str(wheel)], check=True, timeout=60)
    return python


@pytest.fixture
def lab(request: pytest.FixtureRequest, wheel: Path, browser: Browser) -> Iterator[Lab]:
    """Open a tab on what pip installs beside the wheel into an environment of its own."""
    wanted: str = request.param
    python = environment(wanted, wheel)
    program = wanted.partition("=")[0]
    made = Path(tempfile.mkdtemp(prefix="tfv-"))
    try:
        with running(made, command=("-m", program), python=str(python)) as server:
            common: dict[str, Any] = {"gpus": "none", "network": "none"}
            server.kernelspec("slim", "Slim (Docker)", image=recipes.ensure("slim"), **common)
            server.notebook("smoke.ipynb", "1", kernel="slim")
            path = "lab?reset" if program == "jupyterlab" else "notebooks/smoke.ipynb"
            yield from tab(server, browser, request, path, NOTE_PROGRESS)
            server.end_kernels()
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("lab", ["jupyterlab==4.0.*", "jupyterlab==4.*"], indirect=True, ids=["oldest", "newest"])
def test_jupyterlab(lab: Lab) -> None:
    """Launcher, progress, kernel, cell, status bar, panel, Running panel and terminal; no error in the console."""
    lab.launch("Slim (Docker)")
    lab.idle()
    works(lab)
    expect(lab.page.locator(".tfgpu-Status-button:visible")).to_have_text("No GPU")
    lab.command("running:show-panel")
    expect(lab.page.locator(".jp-RunningSessions")).to_contain_text("GPU Memory", ignore_case=True)
    lab.command("tfgpu:terminal")
    expect(lab.page.locator(".jp-Terminal:visible")).to_be_visible()


@pytest.mark.parametrize("lab", ["notebook==7.0.*", "notebook==7.*"], indirect=True, ids=["oldest", "newest"])
def test_notebook(lab: Lab) -> None:
    """A notebook's page: progress, kernel, cell and panel; no error in the console."""
    lab.expect_error("reading '(last_modified|schema)'")  # Notebook's own (7.0, 7.6), without any extension as well
    lab.idle()
    works(lab)


def works(lab: Lab) -> None:
    """See that progress was shown; run a cell in the container, and open the panel."""
    assert "Starting the kernel" in lab.page.evaluate("[...window.progressSeen]")
    expect(lab.banner).to_be_hidden()
    cell = lab.run("import os; print(os.environ['HOME'])")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("/tfgpu/home", timeout=KERNEL_MS)
    lab.command("tfgpu:open-panel")
    panel = lab.page.locator("#tfgpu-panel")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("There is no NVIDIA driver")
    expect(panel).to_contain_text(re.compile("Untitled|smoke"))
