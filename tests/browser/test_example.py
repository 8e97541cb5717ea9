"""The main job, as a person sees it: the launcher, a kernel on a GPU, the example, its accuracy on the page."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from tests.images import recipes
from tests.live import gpu_machine
from tests.live.gpu_machine import needs_own_engine

from .conftest import tab
from .page import Lab
from .serving import running

EXAMPLE: Final = Path(__file__).parents[2] / "examples/mnist_mlp.ipynb"
TRAIN_MS: Final = 300_000

pytestmark = [needs_own_engine, pytest.mark.nightly]


@pytest.fixture
def lab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a tab on a machine with two GPUs whose only kernel is *TensorFlow GPU (Docker)*."""
    made = Path(tempfile.mkdtemp(prefix="tfe-"))
    (made / "machine").mkdir()
    image = recipes.ensure("tf:whole")
    try:
        with gpu_machine.running(made / "machine", slim=False) as machine, pytest.MonkeyPatch.context() as patch:
            gpu_machine.carry(machine.daemon, image)
            patch.setenv("DOCKER_HOST", machine.daemon.host)
            with running(made, env=machine.toolkit.env) as server:
                server.kernelspec("tfgpu", "TensorFlow GPU (Docker)", image=image, network="none", pull="never")
                yield from tab(server, browser, request)
                server.end_kernels()
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(900)
def test_from_the_launcher_to_an_accuracy(lab: Lab) -> None:
    """Launcher → progress → all cells of the example → its accuracy; the panel names the notebook on its GPU."""
    lab.launch("TensorFlow GPU (Docker)")
    expect(lab.banner.get_by_role("status")).to_contain_text(re.compile("GPU|container|Starting the kernel"))
    lab.idle()
    expect(lab.banner).to_be_hidden()
    shutil.copy(EXAMPLE, lab.server.root)
    panel = lab.notebook("mnist_mlp.ipynb")
    lab.idle()
    lab.command("notebook:run-all-cells")
    told = panel.locator(".jp-OutputArea-output", has_text="test accuracy:")
    expect(told).to_be_visible(timeout=TRAIN_MS)
    assert float(told.inner_text().rpartition("test accuracy: ")[2].split()[0]) >= 0.97
    lab.command("tfgpu:open-panel")
    cards = lab.page.locator("#tfgpu-panel").get_by_role("region", name=re.compile("^GPU [01] "))
    expect(cards.get_by_role("listitem").filter(has_text="mnist_mlp.ipynb")).to_have_count(1)
