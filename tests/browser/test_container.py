"""What is inside a notebook's container, as a person sees it: TensorBoard's page, and a terminal."""

from __future__ import annotations

import re
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.images import recipes

from .page import Lab

BOARD_MS: Final = 90_000
"""TensorBoard takes its time to load, and its page too."""
WRITE_AND_SHOW: Final = """\
%load_ext tensorboard
import tensorflow as tf
with tf.summary.create_file_writer("/tmp/logs").as_default():
    for step in range(5):
        tf.summary.scalar("loss_of_the_test", 1 / (step + 1), step)
%tensorboard --logdir /tmp/logs"""


def test_a_terminal_opens_in_the_container(lab: Lab) -> None:
    """The notebook's menu opens a terminal in the kernel's container, with no network: what is typed runs there."""
    lab.server.notebook("inside.ipynb", "1 + 1", kernel="slim")
    lab.notebook("inside.ipynb")
    lab.idle()
    menu(lab, "Kernel", "Open Terminal in Kernel's Container")
    terminal = lab.page.locator(".jp-Terminal:visible")
    expect(terminal).to_have_count(1)
    screen = terminal.locator(".xterm-screen")
    expect(screen).to_be_visible()
    shown = lab.server.root / "shown"
    lab.type_in_terminal(f"echo $HOME $(hostname) >{shown}")
    lab.until(lambda: shown.exists() and shown.read_text().endswith("\n"))
    home, host = shown.read_text().split()
    assert home == "/tfgpu/home"
    assert lab.server.containers() == [host]


@pytest.mark.nightly
def test_tensorboard_shows_its_page(lab: Lab) -> None:
    """In a container with network none, %tensorboard shows TensorBoard in the notebook, with what was written."""
    image = recipes.ensure("tf:whole")
    lab.server.kernelspec("board", "Board (Docker)", image=image, gpus="none", network="none")
    lab.server.notebook("board.ipynb", "1 + 1", kernel="board")
    lab.expect_error("/font-roboto/")  # which TensorBoard's page wants from the root of the site, behind any proxy
    lab.open()
    lab.notebook("board.ipynb")
    lab.idle(BOARD_MS)
    lab.run(WRITE_AND_SHOW)
    board = lab.page.frame_locator(".jp-NotebookPanel:visible .jp-OutputArea-output iframe")
    expect(board.get_by_text(re.compile("loss_of_the_test")).first).to_be_visible(timeout=BOARD_MS)


def menu(lab: Lab, name: str, entry: str) -> None:
    """Choose an entry of the menu bar."""
    lab.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{name}$")).click()
    lab.page.locator(".lm-Menu-item", has_text=entry).click()
