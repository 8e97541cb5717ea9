"""From the launcher to a running kernel, as a person sees it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.images import recipes, registry
from tests.images.registry import Registry

from .page import KERNEL_MS, Lab
from .serving import Server

FAILED_REQUEST = "Failed to load resource: the server responded with a status of 500"
"""The browser's own word on a start that failed; Jupyter answers so."""
SLOW_ANSWERS = """
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  if (answer.url.includes('/tfgpu/launches')) {
    await new Promise(done => setTimeout(done, 1500));
  }
  return answer;
};
"""
"""What the server says of launches reaches the page a second and a half late."""
SLOW_START = "import os, time\nwhile not os.path.exists(%r):\n    time.sleep(0.1)\n"
"""Python does not start before the file is there."""


def slow_start(lab: Lab) -> Path:
    """Make the kernel ``late``; return the file that lets it start."""
    folder = lab.server.root / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_START % f"{folder}/go")
    waits = {"PYTHONPATH": str(folder)}
    image = recipes.ensure("slim")
    lab.server.kernelspec("late", "Late (Docker)", image=image, gpus="none", network="none", env=waits)
    return folder / "go"


def starting(lab: Lab) -> Path:
    """Open a notebook whose kernel ``late`` is starting; return the file that lets it start."""
    go = slow_start(lab)
    lab.server.notebook("late.ipynb", "1 + 1", kernel="late")
    lab.open()
    lab.notebook("late.ipynb")
    expect(lab.banner).to_contain_text("Starting the kernel")
    return go


@pytest.fixture
def slow_registry(tmp_path: Path) -> Iterator[tuple[Registry, str]]:
    """Serve an image of 24 MB at one megabyte a second; gone from the engine before and after."""
    with registry.running(tmp_path) as served:
        registry.random_image("tfgpu-test/slow", 3, 8, tmp_path)
        registry.push("tfgpu-test/slow", "slow", served)
        subprocess.run(["docker", "rmi", "tfgpu-test/slow"], check=True, capture_output=True)
        served.fault = "slow"
        reference = f"{served.address}/slow"
        yield served, reference
        served.fault = ""
        subprocess.run(["docker", "rmi", "--force", reference], check=False, capture_output=True)


@pytest.mark.picture
def test_the_launcher_starts_a_kernel_in_a_container(lab: Lab) -> None:
    """Choosing the launcher's entry leads to a notebook whose cells run in a container."""
    expect(lab.page.locator(".jp-LauncherCard[title^='TensorFlow GPU (Docker)']").first).to_be_visible()
    lab.picture("launcher")
    lab.launch("Slim (Docker)")
    lab.idle()
    expect(lab.banner).to_be_hidden()
    cell = lab.run("import os; print(os.environ['HOME'])")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("/tfgpu/home")


@pytest.mark.picture
def test_cancel_during_a_pull_leaves_nothing(lab: Lab, slow_registry: tuple[Registry, str]) -> None:
    """The notebook shows how far the pull is; Cancel ends it, and leaves no image, container, kernel or dialog."""
    _, reference = slow_registry
    lab.server.kernelspec("slow", "Slow (Docker)", image=reference, gpus="none")
    lab.expect_error(FAILED_REQUEST)
    lab.open()
    lab.launch("Slow (Docker)")
    expect(lab.banner).to_contain_text("Downloading")
    expect(lab.banner).to_contain_text("of 25 MB", timeout=15_000)
    expect(lab.banner.locator("progress")).to_have_js_property("max", 1)
    lab.picture("progress")
    lab.banner.get_by_role("button", name="Cancel").click()
    expect(lab.banner).to_be_hidden()
    expect(lab.page.locator(".jp-Toolbar-kernelName:visible")).to_have_text("No Kernel")
    lab.page.wait_for_timeout(500)
    lab.no_dialog()
    assert lab.server.ask("GET", "api/sessions").json() == []
    images = subprocess.run(["docker", "images", "-q", reference], check=True, capture_output=True, text=True)
    assert images.stdout == ""


def test_a_reload_in_mid_launch_shows_its_progress(lab: Lab, tmp_path: Path) -> None:
    """A page loaded anew while a kernel starts shows that start, and gets that kernel, not a second one."""
    go = starting(lab)
    lab.remembered("late.ipynb")
    lab.reload()
    expect(lab.banner).to_contain_text("Starting the kernel")
    go.touch()
    lab.idle()
    expect(lab.banner).to_be_hidden()
    assert len(lab.server.ask("GET", "api/kernels").json()) == 1
    assert len(lab.server.containers()) == 1


@pytest.mark.nightly
def test_a_kernel_chosen_again_while_it_starts_runs(lab: Lab) -> None:
    """Choosing the kernel that is starting already gives one kernel, which runs, and no dialog."""
    go = starting(lab)
    lab.page.evaluate(
        "() => { void window.jupyterapp.shell.currentWidget.sessionContext.changeKernel({ name: 'late' }); }"
    )
    go.touch()
    lab.idle()
    lab.page.wait_for_timeout(2000)
    lab.idle()
    lab.no_dialog()
    assert len(lab.server.ask("GET", "api/kernels").json()) == 1
    assert len(lab.server.containers()) == 1


@pytest.mark.picture
def test_a_failed_start_says_what_to_do_and_can_be_tried_again(lab: Lab) -> None:
    """An image without Python 3: cause and remedy stand in the notebook, once; after the correction it starts."""
    common: dict[str, Any] = {"gpus": "none", "network": "none", "pull": "never"}
    lab.server.kernelspec("broken", "Broken (Docker)", image="tfgpu-test/no-such:image", **common)
    lab.expect_error(FAILED_REQUEST)
    lab.server.notebook("broken.ipynb", "1 + 1", kernel="broken")
    lab.open()
    lab.notebook("broken.ipynb")
    expect(lab.banner).to_contain_text("tfgpu-test/no-such:image")
    expect(lab.banner).to_contain_text("What to do:")
    lab.page.wait_for_timeout(500)
    lab.no_dialog()
    lab.picture("failure")
    lab.server.kernelspec("broken", "Broken (Docker)", image=recipes.ensure("slim"), **common)
    lab.banner.get_by_role("button", name="Try Again").click()
    lab.idle()
    expect(lab.banner).to_be_hidden()


def test_a_failure_is_seen_behind_a_slow_answer(lab: Lab) -> None:
    """An answer from before the failure hides it for a moment, not until the next poll, and brings no dialog."""
    lab.server.kernelspec("broken", "Broken (Docker)", image="tfgpu-test/no-such:image", gpus="none", pull="never")
    lab.expect_error(FAILED_REQUEST)
    lab.server.notebook("broken.ipynb", "1 + 1", kernel="broken")
    lab.page.add_init_script(SLOW_ANSWERS)
    lab.open()
    failed: list[float] = []
    lab.page.on("response", lambda answer: failed.append(time.monotonic()) if answer.status == 500 else None)
    lab.notebook("broken.ipynb")
    expect(lab.banner).to_contain_text("What to do:")
    seen = time.monotonic()
    lab.page.wait_for_timeout(500)
    lab.no_dialog()
    assert seen - failed[0] < 6, "the next poll was not needed"


@pytest.mark.nightly
def test_a_failure_is_over_once_the_kernel_runs(lab: Lab) -> None:
    """A start that went well before the page heard of it takes the failure before it away, too."""
    lab.server.kernelspec("broken", "Broken (Docker)", image="tfgpu-test/no-such:image", gpus="none", pull="never")
    lab.expect_error(FAILED_REQUEST)
    lab.server.notebook("broken.ipynb", "1 + 1", kernel="broken")
    lab.open()
    lab.notebook("broken.ipynb")
    expect(lab.banner).to_contain_text("What to do:")
    held: list[Route] = []
    free: list[bool] = []
    lab.page.route("**/tfgpu/launches?*", lambda route: route.continue_() if free else held.append(route))
    lab.server.kernelspec("broken", "Broken (Docker)", image=recipes.ensure("slim"), gpus="none", network="none")
    lab.page.evaluate(
        "() => { void window.jupyterapp.shell.currentWidget.sessionContext.changeKernel({ name: 'broken' }); }"
    )
    lab.idle()
    free.append(True)
    for route in held:
        route.continue_()
    expect(lab.banner).to_be_hidden()


def test_a_failed_start_without_a_gpu_offers_the_cpu(lab: Lab) -> None:
    """A kernel that needs a GPU on a machine with none: the reason, and a button that starts on the CPU."""
    image = recipes.ensure("slim")
    lab.server.kernelspec("needy", "Needy (Docker)", image=image, network="none")
    lab.server.kernelspec("tfcpu", "TensorFlow CPU (Docker)", image=image, gpus="none", network="none")
    lab.expect_error(FAILED_REQUEST)
    lab.open()
    lab.launch("Needy (Docker)")
    expect(lab.banner).to_contain_text("What to do:")
    lab.banner.get_by_role("button", name="Start on CPU").click()
    lab.idle()
    expect(lab.page.locator(".jp-Toolbar-kernelName:visible")).to_contain_text("TensorFlow CPU (Docker)")


def test_a_failed_restart_is_told(lab: Lab, server: Server) -> None:
    """A restart whose image is gone meanwhile says so, although Jupyter only says "Exception restarting kernel"."""
    gone = "tfgpu-test/gone:soon"
    subprocess.run(["docker", "tag", recipes.ensure("slim"), gone], check=True, capture_output=True)
    server.kernelspec("gone", "Gone (Docker)", image=gone, gpus="none", network="none", pull="never")
    server.notebook("gone.ipynb", "1 + 1", kernel="gone")
    lab.open()
    lab.notebook("gone.ipynb")
    lab.idle()
    subprocess.run(["docker", "rmi", gone], check=True, capture_output=True)
    lab.expect_error(FAILED_REQUEST)
    lab.expect_error("restart")
    lab.command("notebook:restart-kernel")
    lab.page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect(lab.banner).to_contain_text(gone)
    expect(lab.banner).to_contain_text("What to do:")


@pytest.mark.picture
def test_a_kernel_beyond_its_memory_says_so(lab: Lab, server: Server) -> None:
    """The page says out of memory, with the notebook's name and the limit, instead of "appears to have died"."""
    image = recipes.ensure("slim")
    server.kernelspec("small", "Small (Docker)", image=image, gpus="none", network="none", memory="256m")
    server.notebook("mnist.ipynb", "1 + 1", kernel="small")
    lab.open()
    lab.notebook("mnist.ipynb")
    lab.idle()
    lab.run("numbers = b'1' * 10**9")
    expect(lab.banner).to_contain_text(
        "The kernel of mnist.ipynb ran out of memory at 256 MiB (limit 256 MiB)", timeout=KERNEL_MS
    )
    # The word of its restart would drop a request that was sent before.
    status = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
    lab.page.wait_for_function(f"() => {status} !== 'busy'")
    lab.page.wait_for_timeout(500)
    lab.no_dialog()
    lab.picture("death")
    cell = lab.run("print('here again')")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("here again", timeout=KERNEL_MS)


@pytest.mark.nightly
def test_a_console_shows_its_start_and_why_it_failed(lab: Lab) -> None:
    """A console has the bar that a notebook has; out of sight a failure is told, and leads to it."""
    go = slow_start(lab)
    lab.server.kernelspec("broken", "Broken (Docker)", image="tfgpu-test/no-such:image", gpus="none", pull="never")
    lab.expect_error(FAILED_REQUEST)
    (lab.server.root / "sub").mkdir()
    lab.open("lab/tree/sub?reset")
    banner = lab.page.locator(".jp-ConsolePanel:visible .tfgpu-Banner")
    lab.command("console:create", kernelPreference={"name": "late"}, basePath="sub")
    expect(banner).to_contain_text("Starting the kernel")
    go.touch()
    lab.idle()
    expect(banner).to_be_hidden()
    lab.command("console:create", kernelPreference={"name": "broken"}, basePath="sub")
    expect(banner).to_contain_text("What to do:")
    lab.page.wait_for_timeout(500)
    lab.no_dialog()
    lab.command("application:activate-previous-tab")
    expect(banner).to_be_hidden()
    lab.command("console:create", kernelPreference={"name": "broken"}, basePath="sub", activate=False)
    lab.page.locator(".Toastify__toast", has_text="tfgpu-test/no-such:image").get_by_role("button", name="Show").click()
    expect(banner).to_contain_text("What to do:")
