"""The warning of an idle kernel when the server refuses to keep it; what the server answers is the test's."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from .page import Lab


@pytest.mark.nightly
def test_a_kernel_that_is_not_kept_is_warned_of_again(lab: Lab) -> None:
    """Keep It takes the warning away; where that fails the reason is told, and the warning is there again."""
    warning = {
        "kernel_id": "k1", "kernel_name": "tfgpu", "path": "train.ipynb", "gpus": [0], "used_bytes": 2**30,
        "idle_since": time.time() - 3000, "ends": time.time() + 600,
    }  # fmt: skip
    lab.page.route("**/tfgpu/idle?*", lambda route: route.fulfill(json={"warnings": [warning]}))
    lab.page.route(
        "**/tfgpu/kernels/k1/keep*", lambda route: route.fulfill(status=500, json={"message": "The disk is full."})
    )
    lab.expect_error("status of 500|ERR_|Failed to fetch")
    lab.open()
    toast = lab.page.locator(".Toastify__toast", has_text="train.ipynb holds GPU 0 (1 GiB)")
    toast.get_by_role("button", name="Keep It").click()
    expect(lab.page.locator(".Toastify__toast", has_text="The disk is full.")).to_be_visible()
    lab.page.wait_for_timeout(1000)  # the old one takes its leave
    expect(toast).to_have_count(1)
