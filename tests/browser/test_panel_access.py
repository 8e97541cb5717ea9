"""The panel for everybody: by keyboard alone, for screen readers, at any width, with what waits and what was lost."""

from __future__ import annotations

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from tests.doubles.state import EVERY, GIB, GPU_IS_LOST, machine
from tests.live import gpu_machine
from tests.live.gpu_machine import needs_own_engine

from .page import Lab
from .serving import Server
from .test_gpus import PROMPT_MS, Driver, driver, gpu, gpu_lab, gpu_server, panel, python_of, start

__all__ = ["driver", "gpu_lab", "gpu_server"]  # fixtures
pytestmark = [needs_own_engine, pytest.mark.nightly]

FULL = (200, 320, 480, 800)
"""Widths in pixels, from the narrowest that the panel allows."""


def tab_to(lab: Lab, wanted: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        lab.page.keyboard.press("Tab")
    raise AssertionError(f"Tab never leads to {wanted}")


def test_the_keyboard_does_it_all(gpu_lab: Lab, driver: Driver) -> None:
    """Palette, panel, order, open, and shut down with its question: without a mouse, and the focus is never lost."""
    driver.hold(start(gpu_lab, "b.ipynb"), 0, 3 * GIB)
    driver.hold(start(gpu_lab, "a.ipynb"), 0, 2 * GIB)
    keys = gpu_lab.page.keyboard
    gpu_lab.page.locator("body").press("ControlOrMeta+Shift+c")
    expect(gpu_lab.page.get_by_role("textbox", name=re.compile("search", re.I)).first).to_be_focused()
    keys.type("Show GPUs by")
    keys.press("Enter")
    shown = gpu_lab.page.get_by_role("region", name="GPUs", exact=True)
    expect(shown).to_be_focused()
    names = gpu(gpu_lab, 0).locator(".tfgpu-Row-link")
    expect(names).to_have_text(["b.ipynb", "a.ipynb"], timeout=PROMPT_MS)
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


def test_screen_readers_and_any_width(gpu_lab: Lab, driver: Driver) -> None:
    """axe finds nothing wrong with panel and status bar, in both themes; nothing sticks out at any width."""
    driver.hold(start(gpu_lab, "a_notebook_with_a_rather_long_name.ipynb"), 0, 36 * GIB)
    start(gpu_lab, "cpu.ipynb", "cpu")
    shown = panel(gpu_lab)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_contain_text("36 GiB", timeout=PROMPT_MS)
    for dark in (False, True):
        gpu_lab.theme(dark=dark)
        for part in ("#tfgpu-panel", ".tfgpu-Status"):
            found = Axe().run(gpu_lab.page, context=part)
            assert found.violations_count == 0, found.generate_report()
    for width in FULL:
        shown.evaluate("(node, width) => { node.style.width = `${width}px`; }", width)
        inside = "node => [...node.querySelectorAll('*')].filter(one => one.scrollWidth > node.clientWidth).length"
        assert shown.evaluate(inside) == 0, f"something sticks out at {width} pixels"
        for name in gpu(gpu_lab, 0).locator(".tfgpu-Row-link").all():
            assert name.evaluate("node => node.clientWidth") > 60, f"no room for a name at {width} pixels"


def test_ready_kernels_are_marked(gpu_lab: Lab, driver: Driver) -> None:
    """A kernel that waits in the pool is no notebook's and no other process: a line of its own, with its memory."""
    server = gpu_lab.server
    server.kernelspec("warmed", "Warmed", image=gpu_machine.SLIM, network="none", gpus=["0"], pool_size=1)
    driver.hold(start(gpu_lab, "taken.ipynb", "warmed"), 0, 2 * GIB)
    gpu_lab.until(lambda: bool(waiting(server)), 60)
    driver.hold(python_of(waiting(server)[0]), 0, GIB)
    shown = panel(gpu_lab)
    card = gpu(gpu_lab, 0)
    expect(card.get_by_role("listitem")).to_contain_text(re.compile(r"taken\.ipynb.*2 GiB"), timeout=PROMPT_MS)
    expect(card).to_contain_text(re.compile(r"1 warm kernel\s*1 GiB"), timeout=PROMPT_MS)
    expect(card).not_to_contain_text("other process")
    expect(shown.locator("footer")).to_contain_text(re.compile(r"1 warm kernel, \d+ MiB RAM"))
    gpu_lab.command("running:show-panel")
    item = gpu_lab.page.locator(".jp-RunningSessions-item", has_text="on GPU 0")
    expect(item).to_contain_text(re.compile(r"taken\.ipynb.*2 GiB on GPU 0"))
    expect(item).to_have_count(1)


def waiting(server: Server) -> list[str]:
    """Return the containers of this server's kernels that wait for a notebook."""
    return [json.loads(file.read_text())["container"] for file in server.runtime.glob("tfgpu/*/pool.json")]


def test_a_lost_gpu_is_told_in_lab(gpu_lab: Lab, driver: Driver) -> None:
    """The notebook whose GPU goes away is named in a notification, with the cause and what to do, and it stays."""
    driver.hold(start(gpu_lab, "alpha.ipynb"), 0, GIB)
    gpu_lab.notebook("alpha.ipynb")
    gpu_lab.idle()
    driver.set(machine(2, errors={EVERY: GPU_IS_LOST}))
    toast = gpu_lab.page.locator(".Toastify__toast", has_text="lost its GPU")
    expect(toast).to_contain_text(re.compile(r"alpha\.ipynb.*off the bus.*What to do: save what you need", re.S))
    expect(toast).to_have_count(1)
