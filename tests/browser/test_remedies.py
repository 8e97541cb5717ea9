"""Buttons beside failures that do what the remedy says: another image, another notebook's GPU, the doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.doubles.state import GIB
from tests.images import recipes
from tests.images.presets import at_hand
from tests.live import gpu_machine
from tests.live.gpu_machine import needs_own_engine

from .page import Lab
from .test_gpus import Driver, driver, gpu_lab, gpu_server, start
from .test_launch import FAILED_REQUEST

__all__ = ["driver", "gpu_lab", "gpu_server"]

pytestmark = pytest.mark.nightly


@pytest.fixture
def preset() -> Iterator[str]:
    """Have an image under the name that is known to work on a machine without a GPU; return the preset's name."""
    with at_hand("tf-cpu") as known:
        yield known.name


def test_another_image_is_one_click_away(lab: Lab, preset: str) -> None:
    """An image that isn't there: the button names the one that works here, and the notebook then says that kernel."""
    lab.server.kernelspec(
        "gone", "Gone (Docker)", image="tfgpu-test/no-such:image", gpus="none", network="none", pull="never"
    )
    lab.server.notebook("gone.ipynb", "1 + 1", kernel="gone")
    lab.expect_error(FAILED_REQUEST)
    lab.open()
    lab.notebook("gone.ipynb")
    lab.banner.get_by_role("button", name="Use Another Image").click()
    dialog = lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text(f"Use {preset}?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(lab.banner).to_contain_text("What to do:")
    lab.banner.get_by_role("button", name="Use Another Image").click()
    dialog.get_by_role("button", name="Use It").click()
    lab.idle()
    expect(lab.banner).to_be_hidden()
    expect(lab.page.locator(".jp-Toolbar-kernelName:visible")).to_contain_text(f"Gone (Docker), image {preset}")
    lab.command("docmanager:save")
    named_in_file = ""
    for _ in range(100):
        content = lab.server.ask("GET", "api/contents/gone.ipynb").json()["content"]
        named_in_file = content["metadata"]["kernelspec"]["name"]
        if named_in_file != "gone":
            break
        lab.page.wait_for_timeout(100)
    assert named_in_file == f"gone-with-{preset}"
    old = json.loads((lab.server.folder / "data/kernels/gone/kernel.json").read_text())
    assert old["metadata"]["kernel_provisioner"]["config"]["image"] == "tfgpu-test/no-such:image"


@needs_own_engine
def test_advice_to_take_another_image_can_be_followed_at_once(gpu_lab: Lab, driver: Driver) -> None:
    """An image that is too old for the GPU starts, with advice that stays, can be read whole, and has a button."""
    old, known = "tensorflow/tensorflow:2.3.0-gpu", "tensorflow/tensorflow:2.17.0-gpu"
    docker = driver.machine.daemon.docker
    for name in (old, known):
        docker("tag", gpu_machine.SLIM, name)
    gpu_lab.server.kernelspec("old", "Old (Docker)", image=old, network="none", gpus=["0"])
    gpu_lab.server.notebook("old.ipynb", "1 + 1", kernel="old")
    gpu_lab.open()
    gpu_lab.notebook("old.ipynb")
    gpu_lab.idle()
    toast = gpu_lab.page.locator(".Toastify__toast", has_text=f"{old} was made before NVIDIA A100")
    toast.get_by_role("button", name="Read All").click()
    dialog = gpu_lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text(f"Take {known} instead (image = tf2.17-gpu).")
    dialog.get_by_role("button", name="Close").last.click()
    toast.get_by_role("button", name="Use Another Image").click()
    expect(dialog).to_contain_text("Use tf2.17-gpu?")
    dialog.get_by_role("button", name="Use It").click()
    expect(gpu_lab.page.locator(".jp-Toolbar-kernelName:visible")).to_contain_text("Old (Docker), image tf2.17-gpu")
    gpu_lab.idle()
    cell = gpu_lab.run("6 * 7")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("42")
    docker("rmi", old, known)


@needs_own_engine
def test_the_notebook_that_holds_the_gpu_can_go(gpu_lab: Lab, driver: Driver) -> None:
    """Both GPUs are held: the button lists who has them, idle or busy, ends the chosen one, and the kernel starts."""
    gpu_lab.server.kernelspec("alone", "Alone", image=gpu_machine.SLIM, network="none", gpus=1, gpu_sharing="exclusive")
    gpu_lab.open()
    driver.hold(start(gpu_lab, "first.ipynb", "alone"), 0, 3 * GIB)
    start(gpu_lab, "second.ipynb", "alone")
    gpu_lab.notebook("second.ipynb")
    gpu_lab.idle()
    gpu_lab.run("import time\ntime.sleep(100)")
    gpu_lab.expect_error(FAILED_REQUEST)
    gpu_lab.server.notebook("third.ipynb", "1 + 1", kernel="alone")
    gpu_lab.notebook("third.ipynb")
    expect(gpu_lab.banner).to_contain_text("first.ipynb")
    gpu_lab.banner.get_by_role("button", name="Shut Down a Notebook").click()
    dialog = gpu_lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Its variables are lost.")
    options = dialog.locator("option")
    expect(options).to_have_count(2)
    expect(options.filter(has_text="first.ipynb: GPU 0, 3 GiB, idle")).to_have_count(1)
    expect(options.filter(has_text="second.ipynb: GPU 1, 0 MiB, busy")).to_have_count(1)
    dialog.locator("select").select_option(index=0)
    dialog.get_by_role("button", name="Shut Down").click()
    gpu_lab.idle()
    expect(gpu_lab.banner).to_be_hidden()
    paths = {session["path"] for session in gpu_lab.server.ask("GET", "api/sessions").json()}
    assert paths == {"second.ipynb", "third.ipynb"}


def test_a_failure_leads_to_the_doctor(lab: Lab) -> None:
    """A kernel that wants a GPU on a machine with none: Open Doctor opens the ladder, and the failure stays."""
    lab.server.kernelspec("needy", "Needy (Docker)", image=recipes.ensure("slim"), network="none")
    lab.expect_error(FAILED_REQUEST)
    lab.open()
    lab.launch("Needy (Docker)")
    lab.banner.get_by_role("button", name="Open Doctor").click()
    expect(lab.page.get_by_role("tabpanel", name="Doctor").get_by_role("status")).to_have_text(
        "To mend first: kernel driver."
    )
    lab.page.locator(".lm-TabBar-tab", has_text="Untitled.ipynb").first.click()
    expect(lab.banner).to_contain_text("What to do:")
