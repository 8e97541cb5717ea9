"""The panel for everybody: by keyboard alone, for screen readers, at any width."""

from __future__ import annotations

import re
from typing import Final

import pytest
from playwright.sync_api import Locator, expect

from tests.doubles.state import GIB
from tests.live.gpu_machine import needs_own_engine

from .page import Lab
from .test_gpus import Driver, driver, gpu, gpu_lab, gpu_server, panel, start

__all__ = ["driver", "gpu_lab", "gpu_server"]  # fixtures
pytestmark = [needs_own_engine, pytest.mark.nightly]

WIDTHS: Final = (200, 320, 480, 800)
"""Widths in pixels, from the narrowest that the panel allows."""

STICKS_OUT: Final = """node => [...node.querySelectorAll('*')].filter(
    one => one.getBoundingClientRect().right > node.getBoundingClientRect().right + 0.5
).map(one => one.outerHTML)"""


def tab_to(lab: Lab, wanted: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        lab.page.keyboard.press("Tab")
    raise AssertionError(f"Tab never leads to {wanted}")


def test_the_keyboard_does_it_all(gpu_lab: Lab, driver: Driver) -> None:
    """Palette, panel, order, open, shut down with its question, status bar: no mouse, and the focus is never lost."""
    driver.hold(start(gpu_lab, "b.ipynb"), 0, 3 * GIB)
    driver.hold(start(gpu_lab, "a.ipynb"), 0, 2 * GIB)
    keys = gpu_lab.page.keyboard
    # JupyterLab gives its launcher the focus, once that is drawn
    expect(gpu_lab.page.locator(".jp-Launcher")).to_be_focused()
    gpu_lab.page.locator("body").press("ControlOrMeta+Shift+c")
    expect(gpu_lab.page.get_by_role("textbox", name=re.compile("search", re.I)).first).to_be_focused()
    keys.type("Show GPUs by")
    keys.press("Enter")
    shown = gpu_lab.page.get_by_role("region", name="GPUs", exact=True)
    expect(shown).to_be_focused()
    names = gpu(gpu_lab, 0).locator(".tfgpu-Row-link")
    expect(names).to_have_text(["b.ipynb", "a.ipynb"])
    order = shown.get_by_label("Sort by")
    tab_to(gpu_lab, order)
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    expect(order).to_have_value("name")
    expect(names).to_have_text(["a.ipynb", "b.ipynb"])
    tab_to(gpu_lab, gpu(gpu_lab, 0).get_by_role("button", name="Shut Down: a.ipynb"))
    keys.press("Enter")
    expect(gpu_lab.page.locator(".jp-Dialog .jp-mod-warn")).to_be_focused()
    keys.press("Enter")
    expect(names).to_have_text(["b.ipynb"], timeout=20_000)
    expect(shown).to_be_focused()
    tab_to(gpu_lab, names.first)
    keys.press("Enter")
    expect(gpu_lab.page.locator(".jp-NotebookPanel:visible")).to_be_visible()
    gpu_lab.idle()
    order.focus()
    tab_to(gpu_lab, gpu_lab.page.locator(".tfgpu-Status-button:visible"))
    keys.press("Enter")
    expect(shown).to_be_focused()


def test_screen_readers_and_any_width(gpu_lab: Lab, driver: Driver) -> None:
    """axe finds nothing wrong with panel and status bar, in both themes; nothing sticks out at any width."""
    driver.hold(start(gpu_lab, "a_notebook_with_a_rather_long_name.ipynb"), 0, 36 * GIB)
    start(gpu_lab, "cpu.ipynb", "cpu")
    shown = panel(gpu_lab)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_contain_text("36 GiB")
    for dark in (False, True):
        gpu_lab.theme(dark=dark)
        assert gpu_lab.violations("#tfgpu-panel", ".tfgpu-Status") == []
    for width in WIDTHS:
        shown.evaluate("(node, width) => { node.style.width = `${width}px`; }", width)
        assert shown.evaluate(STICKS_OUT) == [], f"at {width} pixels"
        for name in gpu(gpu_lab, 0).locator(".tfgpu-Row-link").all():
            assert name.evaluate("node => node.clientWidth") > 60, f"no room for a name at {width} pixels"
