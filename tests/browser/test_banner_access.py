"""What stands above a notebook, and the doctor's page, for screen readers."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.images import recipes

from .page import Lab
from .test_launch import FAILED_REQUEST
from .test_sharing import locked

pytestmark = pytest.mark.nightly


def test_progress_failure_and_doctor_for_screen_readers(lab: Lab) -> None:
    """axe finds nothing wrong with what stands above a notebook, with the doctor's page and a status without GPUs."""
    late = {"PYTHONPATH": f"{lab.server.root}/slow"}
    (lab.server.root / "slow").mkdir()
    (lab.server.root / "slow/sitecustomize.py").write_text("import time\ntime.sleep(8)\n")
    lab.server.kernelspec("late", "Late", image=recipes.ensure("slim"), gpus="none", network="none", env=late)
    lab.server.kernelspec("broken", "Broken", image="tfgpu-test/no-such:image", gpus="none", pull="never")
    for kernel in ("late", "broken"):
        lab.server.notebook(f"{kernel}.ipynb", "1 + 1", kernel=kernel)
    lab.expect_error(FAILED_REQUEST)
    lab.open()
    lab.notebook("late.ipynb")
    expect(lab.banner).to_contain_text("Starting the kernel")
    assert lab.violations(".jp-NotebookPanel:not(.lm-mod-hidden) .tfgpu-Banner") == []
    lab.idle()
    lab.notebook("broken.ipynb")
    expect(lab.banner).to_contain_text("What to do:")
    for dark in (False, True):
        lab.theme(dark=dark)
        assert lab.violations(".jp-NotebookPanel:not(.lm-mod-hidden) .tfgpu-Banner", ".tfgpu-Status") == []
    lab.command("tfgpu:doctor")
    expect(lab.page.get_by_role("tabpanel", name="Doctor").get_by_role("status")).to_contain_text("To mend first")
    for dark in (False, True):
        lab.theme(dark=dark)
        assert lab.violations(".tfgpu-Doctor") == []


def test_what_a_notebook_needs_for_screen_readers(lab: Lab) -> None:
    """axe finds nothing wrong with what a received notebook asks consent for, and with what stands there afterwards."""
    locked(lab.server, "shared.ipynb")
    lab.expect_error(r"status of 500|consent|not agreed")
    panel = lab.notebook("shared.ipynb")
    needs = panel.get_by_role("region", name="What this notebook needs")
    expect(needs).to_contain_text("waits for your consent")
    part = ".jp-NotebookPanel:not(.lm-mod-hidden) [aria-label=\"What this notebook needs\"]"
    for dark in (False, True):
        lab.theme(dark=dark)
        assert lab.violations(part) == []
    needs.get_by_role("button", name="Agree").click()
    lab.idle()
    expect(needs).to_contain_text("This notebook is locked to")
    for dark in (False, True):
        lab.theme(dark=dark)
        assert lab.violations(part) == []
