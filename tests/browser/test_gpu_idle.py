"""A GPU comes free: the notebook that holds it and does nothing is warned of, kept by a click, or ended and told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.doubles.state import GIB
from tests.live import gpu_machine
from tests.live.gpu_machine import needs_own_engine

from .page import Lab
from .test_gpus import Driver, driver, gpu, gpu_lab, gpu_server, panel, start

__all__ = ["driver", "gpu_lab", "gpu_server"]

pytestmark = [needs_own_engine, pytest.mark.nightly]

TIMEOUT, WARNING = 24, 12
"""Seconds in place of an hour and ten minutes."""
SOON_MS = 1000 * (TIMEOUT + 15)


def test_an_idle_notebook_is_warned_of_kept_and_ended(gpu_lab: Lab, driver: Driver) -> None:
    """The warning names the notebook and what it holds; Keep It keeps it; unheard it ends, and the page says why."""
    gpu_lab.server.kernelspec(
        "brief", "Brief", image=gpu_machine.SLIM, network="none", gpus=["0"],
        gpu_idle_timeout=TIMEOUT, gpu_idle_warning=WARNING,
    )  # fmt: skip
    driver.hold(start(gpu_lab, "busy.ipynb", "brief"), 0, GIB)
    gpu_lab.notebook("busy.ipynb")
    gpu_lab.idle()
    gpu_lab.run("import time\ntime.sleep(300)")
    driver.hold(start(gpu_lab, "train.ipynb", "brief"), 0, 3 * GIB)
    gpu_lab.notebook("train.ipynb")
    gpu_lab.idle()
    toast = gpu_lab.page.locator(".Toastify__toast", has_text="train.ipynb holds GPU 0 (3 GiB)")
    expect(toast).to_be_visible(timeout=SOON_MS)
    toast.get_by_role("button", name="Keep It").click()
    expect(toast).to_have_count(0)
    gpu_lab.page.wait_for_timeout(1000 * WARNING)
    assert {session["path"] for session in gpu_lab.server.ask("GET", "api/sessions").json()} == {
        "busy.ipynb", "train.ipynb",
    }, "it was kept beyond the end that it was warned of"  # fmt: skip
    expect(toast).to_be_visible(timeout=SOON_MS)
    panel(gpu_lab)
    expect(gpu_lab.banner).to_contain_text(
        re.compile(r"The kernel of train\.ipynb was shut down, because it held GPU 0 \(3\.0 GiB\)"), timeout=SOON_MS
    )
    expect(toast).to_have_count(0)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_have_count(1)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_contain_text("busy.ipynb")
    assert len(gpu_lab.server.containers()) == 1
    expect(gpu_lab.page.locator(".Toastify__toast", has_text="busy.ipynb holds")).to_have_count(0)
    gpu_lab.expect_error("ERR_|Failed to fetch|404")  # what the page had asked for when it was left
    gpu_lab.open()
    told = gpu_lab.page.locator(".Toastify__toast", has_text="The kernel of train.ipynb was shut down")
    expect(told).to_be_visible()
