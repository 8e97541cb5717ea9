"""A shared notebook in JupyterLab: what it needs, the consent, its run, and the report of its verification."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.images import recipes

from .page import Lab
from .serving import Server

CELLS = ("import random\nprint(random.random())", "print(sum(range(10)))")


def locked(server: Server, name: str) -> Path:
    """Have somebody else lock a notebook: it is theirs, and this user has agreed to nothing."""
    notebook = server.notebook(name, *CELLS, kernel="slim")
    environment = os.environ | {
        "XDG_DATA_HOME": str(server.folder / "author"),
        "JUPYTER_DATA_DIR": str(server.folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(server.folder / "author-run"),
    }
    command = [sys.executable, "-m", "tfgpu_kernel.cli", "lock", str(notebook), "--kernel", "slim"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return notebook


@pytest.mark.picture
def test_receive_agree_run_verify(lab: Lab, server: Server) -> None:
    """The banner names what the notebook needs before anything starts; after the consent it runs and is verified.

    A consent is for what the banner showed, not for what the file holds by then, and for the notebook, not its name.
    """
    notebook = locked(server, "shared.ipynb")
    raw = json.loads(notebook.read_text())
    raw["metadata"]["tfgpu"]["mounts"] = ["/:/host:rw"]
    notebook.write_text(json.dumps(raw))
    lab.expect_error(r"status of (409|500)|consent|not agreed")
    panel = lab.notebook("shared.ipynb")
    banner = panel.get_by_role("region", name="What this notebook needs")
    expect(banner).to_contain_text("waits for your consent")
    expect(banner).to_contain_text("exactly the layers")
    expect(banner).to_contain_text("its code has no network")
    expect(banner).to_contain_text("Ignored, since no notebook decides about such things: 'mounts'")
    assert server.containers() == []
    lab.picture("sharing-consent")
    agree = banner.get_by_role("button", name="Agree")
    shown = notebook.read_text()
    raw["metadata"]["tfgpu"]["packages"]["system"] = ["git=1:2.39.5-0+deb12u2"]
    notebook.write_text(json.dumps(raw))
    agree.click()
    expect(lab.page.get_by_text("The notebook's lock has changed since you read")).to_be_visible()
    expect(banner).to_contain_text("git=1:2.39.5")
    notebook.write_text(shown)
    agree.click()
    expect(banner).not_to_contain_text("git=1:2.39.5")
    assert server.containers() == []
    for close in lab.page.get_by_title("Hide notification").all():
        close.click()
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.rename('renamed.ipynb')")
    expect(banner).to_contain_text("waits for your consent")
    agree.click()
    lab.idle()
    expect(banner).to_contain_text("This notebook is locked to")
    lab.command("notebook:run-all-cells")
    expect(panel.locator(".jp-OutputArea-output").last).to_contain_text("45")
    lab.command("tfgpu:verify")
    expect(lab.page.get_by_text("Verifying the notebook").first).to_be_visible()
    frame = lab.page.frame_locator(".tfgpu-report iframe, iframe.tfgpu-report")
    expect(frame.locator(".verdict")).to_have_text("Reproduced: bit-identical.", timeout=90_000)
    expect(lab.page.get_by_text("Verifying the notebook")).to_have_count(0)
    expect(frame.locator("h2").last).to_have_text("Cells")
    lab.theme(dark=True)
    expect(frame.locator("body")).to_have_css("background-color", "rgb(22, 22, 22)")
    lab.picture("sharing-report")


@pytest.mark.nightly
def test_packages_are_kept_and_removed(lab: Lab, server: Server) -> None:
    """What a cell has installed is kept by one click, is there at the next start, and is removed by a command."""
    server.kernelspec("online", "Online (Docker)", image=recipes.ensure("slim"), gpus="none")
    lab.open()
    notebook = server.notebook("mine.ipynb", *CELLS, kernel="online")

    def kept() -> list[str]:
        lock = json.loads(notebook.read_text())["metadata"].get("tfgpu", {})
        found: list[str] = lock.get("packages", {}).get("kept", [])
        return found

    panel = lab.notebook("mine.ipynb")
    lab.idle()
    lab.run("%pip install cowsay")
    lab.page.get_by_role("button", name="Keep in this notebook").click(timeout=120_000)
    lab.until(lambda: kept() == ["cowsay"], 120)
    banner = panel.get_by_role("region", name="What this notebook needs")
    expect(banner).to_contain_text("kept: cowsay")
    expect(lab.page.get_by_text("The next start of the kernel has it so.").first).to_be_visible()
    lab.picture("sharing-kept")
    lab.command("tfgpu:remove")
    dialog = lab.page.locator(".jp-Dialog")
    dialog.get_by_text("cowsay").click()
    dialog.get_by_role("button", name="Ok").click()
    lab.until(lambda: kept() == [], 120)
    expect(banner).not_to_contain_text("kept: cowsay")


def test_share_from_the_page(lab: Lab, server: Server) -> None:
    """The command Share locks the open notebook, and the page shows the lock."""
    server.notebook("mine.ipynb", *CELLS, kernel="slim")
    panel = lab.notebook("mine.ipynb")
    lab.idle()
    lab.command("tfgpu:share")
    expect(panel.get_by_role("region", name="What this notebook needs")).to_contain_text(
        "This notebook is locked to", timeout=90_000
    )
    assert json.loads((server.root / "mine.ipynb").read_text())["metadata"]["tfgpu"]["cells"]
