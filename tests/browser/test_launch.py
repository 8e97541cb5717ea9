"""From the launcher to a running kernel, as a person sees it."""

from __future__ import annotations

from playwright.sync_api import expect

from .page import Lab


def test_the_launcher_starts_a_kernel_in_a_container(lab: Lab) -> None:
    """Choosing the launcher's entry leads to a notebook whose cells run in a container."""
    lab.launch("Slim (Docker)")
    lab.idle()
    cell = lab.run("import os; print(os.environ['HOME'])")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("/tfgpu/home")
