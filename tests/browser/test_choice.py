"""What the page tells of the image that was chosen for a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.images.presets import at_hand

from .page import Lab

pytestmark = pytest.mark.nightly


@pytest.fixture
def official(lab: Lab) -> Iterator[str]:
    """Have an image under the name that ``auto`` chooses where no GPU is asked for."""
    with at_hand("tf-cpu") as preset:
        yield preset.reference


def test_a_chosen_image_is_told_once(lab: Lab, official: str) -> None:
    """``auto`` says which image it took, why and how to choose; a second notebook on it doesn't say it again."""
    lab.server.kernelspec("auto", "Auto (Docker)", image="auto", gpus="none")
    lab.open()
    lab.launch("Auto (Docker)")
    lab.idle()
    told = lab.page.locator(".Toastify__toast", has_text=f"so the image is {official}. To choose yourself, set image")
    expect(told).to_have_count(1)
    told.locator("[class*=jp-Notification-Toast-Close]").first.click()
    expect(told).to_have_count(0)
    lab.command("launcher:create")
    lab.launch("Auto (Docker)")
    lab.idle()
    expect(told).to_have_count(0)
