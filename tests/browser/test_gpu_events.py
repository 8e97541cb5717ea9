"""What no notebook does: kernels that wait for one, and a GPU that goes away."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from playwright.sync_api import expect

from tests.doubles.state import EVERY, GIB, GPU_IS_LOST, machine
from tests.live import gpu_machine
from tests.live.gpu_machine import needs_own_engine

from .page import Lab
from .serving import Server
from .test_gpus import Driver, driver, gpu, gpu_lab, gpu_server, panel, python_of, start

__all__ = ["driver", "gpu_lab", "gpu_server"]  # fixtures
pytestmark = [needs_own_engine, pytest.mark.nightly]

def test_ready_kernels_are_marked(gpu_lab: Lab, driver: Driver) -> None:
    """A kernel that waits in the pool is no notebook's and no other process: a line of its own, with its memory."""
    server = gpu_lab.server
    server.kernelspec("warmed", "Warmed", image=gpu_machine.SLIM, network="none", gpus=["0"], pool_size=1)
    driver.hold(start(gpu_lab, "taken.ipynb", "warmed"), 0, 2 * GIB)
    gpu_lab.until(lambda: bool(waiting(server)), 60)
    driver.hold(python_of(waiting(server)[0]), 0, GIB)
    shown = panel(gpu_lab)
    card = gpu(gpu_lab, 0)
    expect(card.get_by_role("listitem")).to_contain_text(re.compile(r"taken\.ipynb.*2 GiB"))
    expect(card).to_contain_text(re.compile(r"1 warm kernel\s*1 GiB"))
    expect(card).not_to_contain_text("other process")
    expect(shown.locator(".tfgpu-Foot")).to_contain_text(re.compile(r"1 warm kernel, \d+ MiB RAM"))
    gpu_lab.command("running:show-panel")
    item = gpu_lab.page.locator(".jp-RunningSessions-item", has_text="on GPU 0")
    expect(item).to_contain_text(re.compile(r"taken\.ipynb.*2 GiB on GPU 0"))
    expect(item).to_have_count(1)
    server.kernelspec("warmed", "Warmed", image=gpu_machine.SLIM, network="none", gpus=["0"], pool_size=0)
    server.end_kernels()
    gpu_lab.until(lambda: server.containers() == [container[:12] for container in waiting(server)])
    subprocess.run(["docker", "rm", "--force", *waiting(server)], check=True, capture_output=True)


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
    expect(toast).to_contain_text(re.compile(r"kernel of alpha\.ipynb .*off the bus"))
    expect(toast).to_have_count(1)
    toast.get_by_role("button", name="What to Do").click()
    dialog = gpu_lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("save what you need and restart the kernel")
    dialog.get_by_role("button", name="Close").last.click()
    expect(toast).to_be_visible()
