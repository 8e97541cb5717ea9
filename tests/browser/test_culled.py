"""Jupyter's own culling, as a page tells of it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.images import recipes

from .conftest import tab
from .page import Lab
from .serving import running

pytestmark = pytest.mark.nightly

CULL = (
    "--MappingKernelManager.cull_idle_timeout=8",
    "--MappingKernelManager.cull_interval=1",
    "--MappingKernelManager.cull_connected=True",
)


@pytest.fixture
def culling_lab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a tab on a server that culls."""
    made = Path(tempfile.mkdtemp(prefix="tfc-"))
    try:
        with running(made, *CULL) as server:
            server.kernelspec("slim", "Slim (Docker)", image=recipes.ensure("slim"), gpus="none", network="none")
            yield from tab(server, browser, request)
            server.end_kernels()
    finally:
        shutil.rmtree(made, ignore_errors=True)


def test_a_culled_kernel_is_told_of(culling_lab: Lab) -> None:
    """The page says that Jupyter ended the kernel, and why; one that is opened later too, beside the new kernel."""
    culling_lab.server.notebook("rests.ipynb", "1 + 1", kernel="slim")
    culling_lab.notebook("rests.ipynb")
    culling_lab.idle()
    why = re.compile(
        r"The kernel of rests\.ipynb was shut down by Jupyter, because it had done nothing for \d+ s "
        r"\(cull_idle_timeout\)"
    )
    culling_lab.expect_error("404")  # what the page asks of the kernel that is gone
    expect(culling_lab.banner).to_contain_text(why, timeout=40_000)
    assert not culling_lab.server.containers()
    culling_lab.open()
    told = culling_lab.page.locator(".Toastify__toast", has_text=why)
    expect(told).to_be_visible()
    told.get_by_role("button", name="Show").click()
    culling_lab.idle()
    expect(culling_lab.banner).to_contain_text(why)
