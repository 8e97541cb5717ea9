"""What a person sees on a machine with no GPU."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .page import Lab


def test_no_gpu_says_why(lab: Lab) -> None:
    """The status bar says that there is none, with the reason, and so does the panel."""
    item = lab.page.locator(".tfgpu-Status-button")
    expect(item).to_have_text("No GPU")
    expect(item).to_have_attribute("title", re.compile("There is no NVIDIA driver"))
    lab.command("tfgpu:open-panel")
    reason = "There is no NVIDIA driver (libnvidia-ml.so.1 was not found)."
    expect(lab.page.locator("#tfgpu-panel")).to_contain_text(reason)
