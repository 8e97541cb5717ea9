"""The way real users take: pip install the wheel, start Lab at home, click the card, train, and take all away again."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.images import recipes
from tfgpu_kernel.engine import find
from tfgpu_kernel.runfolder import cache_folder

from .conftest import tab
from .page import IMAGES
from .serving import Server

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "tfgpu-visitor"
PYTHON: Final = "/usr/bin/python3"
"""The system's Python: others may lie where only root can read them."""
TOKEN: Final = "visitor"
PROGRAMS: Final = ("sh", "env", "cat", "ls", "uname", "id", "sed", "ldconfig", "dirname", "basename", "tty", "stty")
"""What the user has beside the virtual environment; no Node.js, no compiler, no git, no docker."""

TRAIN: Final = """\
import tensorflow as tf
(x, y), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
model = tf.keras.Sequential([
    tf.keras.layers.Rescaling(1 / 255), tf.keras.layers.Flatten(),
    tf.keras.layers.Dense(256, activation="relu"), tf.keras.layers.Dense(10),
])
model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
history = model.fit(x, y, batch_size=256, epochs=8, verbose=2)
print("test accuracy: %.4f" % model.evaluate(x_test, y_test, verbose=0)[1])
"""
SHOW: Final = """\
import matplotlib.pyplot as plt
digits = model.predict(x_test[:16], verbose=0).argmax(1)
figure, axes = plt.subplots(2, 8, figsize=(8, 2.4))
for axis, image, digit in zip(axes.flat, x_test, digits):
    axis.imshow(image, cmap="gray_r"); axis.set_title(f"it's a {digit}", fontsize=8); axis.axis("off")
"""


@dataclass(frozen=True)
class Visitor:
    """An ordinary user of the engine's group, with an empty home."""

    home: Path
    uid: int

    @property
    def venv(self) -> Path:
        """The user's virtual environment."""
        return self.home / "venv"

    def command(self, *command: str) -> list[str]:
        """Return what runs a command as the user, with a clean environment, in the home folder."""
        pip = [f"{name}={text}" for name, text in os.environ.items()
               if name.startswith("PIP_") and name != "PIP_CACHE_DIR"]  # fmt: skip
        return [
            "runuser", "--user", NAME, "--", "env", "--ignore-environment", f"--chdir={self.home}",
            f"HOME={self.home}", f"PATH={self.venv}/bin:{self.home}/bin", "LANG=C.UTF-8", "SHELL=/bin/sh",
            f"DOCKER_HOST={find.find(os.environ)}", *pip, *command,
        ]  # fmt: skip

    def run(self, *command: str) -> str:
        """Run a command as the user and return what it printed."""
        done = subprocess.run(self.command(*command), check=False, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    """Make the user, and remove the user afterwards."""
    if os.geteuid() != 0 or not os.access(PYTHON, os.X_OK):
        pytest.skip("needs root to make an ordinary user, and the system's Python")
    address = find.find(os.environ).partition("://")[2]
    group = grp.getgrgid(os.stat(address).st_gid).gr_name
    subprocess.run(["useradd", "--create-home", "--shell=/bin/sh", f"--groups={group}", NAME], check=True)
    try:
        entry = pwd.getpwnam(NAME)
        visitor = Visitor(Path(entry.pw_dir), entry.pw_uid)
        (visitor.home / "bin").mkdir()
        for program in PROGRAMS:
            if found := shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin"):
                (visitor.home / "bin" / program).symlink_to(found)
        yield visitor
    finally:
        subprocess.run(["userdel", "--remove", NAME], check=False, capture_output=True)


@contextlib.contextmanager
def lab(visitor: Visitor, *options: str) -> Iterator[Server]:
    """Run ``jupyter lab`` as the user, in the home folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = visitor.command(
        "jupyter", "lab", "--no-browser", f"--port={port}", f"--IdentityProvider.token={TOKEN}", *options
    )
    log = visitor.home / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Server(visitor.home, f"http://127.0.0.1:{port}/", TOKEN, process)
    except BaseException:
        sys.stderr.write(log.read_text()[-5000:])
        raise
    finally:
        process.terminate()
        process.wait(30)


def ours(visitor: Visitor) -> list[str]:
    """Return what the user has of ours: files, containers, images."""
    files = [str(path) for path in visitor.venv.rglob("*")]
    files = [path for path in files if "tfgpu" in path.removeprefix(str(visitor.home))]
    for folder in (".local/share/jupyter/runtime/tfgpu", ".cache/tfgpu"):
        if (visitor.home / folder).exists():
            files.append(folder)
    for listing in (
        ["docker", "ps", "--all", "--quiet", "--filter", f"label=io.tfgpu.uid={visitor.uid}"],
        ["docker", "images", "--quiet", "--filter", "label=io.tfgpu.image.kind"],
    ):
        files += subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    return files


def cell(page: Page, number: int, code: str) -> None:
    """Type code into a cell of the visible notebook, and run it."""
    page.locator(".jp-NotebookPanel:visible .jp-CodeCell").nth(number).locator(".cm-content").click()
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")


@pytest.mark.nightly
@pytest.mark.picture
@pytest.mark.timeout(1200)
def test_from_the_wheel_to_a_trained_network_and_back(
    visitor: Visitor, browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No Node.js, no clone, no root: launcher, kernel, MNIST; afterwards prune and uninstall leave nothing."""
    image = recipes.ensure("tf:py311")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True, timeout=300,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    shutil.copy(wheel, visitor.home)
    visitor.run(PYTHON, "-m", "venv", str(visitor.venv))
    visitor.run("pip", "install", "--quiet", "jupyterlab", wheel.name)
    assert not shutil.which("node", path=f"{visitor.venv}/bin:{visitor.home}/bin")
    kept = visitor.home / ".cache/tfgpu/keras-datasets"  # no download: the place may have no way out
    visitor.run(PYTHON, "-c", f"import os; os.makedirs({str(kept)!r})")
    shutil.copy(cache_folder() / "keras-datasets/mnist.npz", kept)

    options = (
        f"--TfgpuProvisioner.image={image}", "--TfgpuProvisioner.gpu_required=False",
        "--LabApp.expose_app_in_browser=True",
    )  # fmt: skip
    with lab(visitor, *options) as server, contextlib.contextmanager(tab)(server, browser, request) as shown:
        page = shown.page
        page.set_viewport_size({"width": 1280, "height": 760})
        card = page.locator(".jp-LauncherCard[data-category='Notebook'][title^='TensorFlow GPU (Docker)']")
        expect(card.locator("img")).to_be_visible(timeout=60_000)
        card.click()
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=120_000,
        )
        cell(page, 0, TRAIN)
        told = page.locator(".jp-NotebookPanel:visible .jp-CodeCell").first.locator(".jp-OutputArea")
        expect(told).to_contain_text("test accuracy: 0.9", timeout=180_000)
        assert float(told.inner_text().rpartition("test accuracy: ")[2].split()[0]) >= 0.97
        cell(page, 1, SHOW)
        expect(page.locator(".jp-NotebookPanel:visible .jp-RenderedImage img")).to_be_visible(timeout=60_000)
        picture(page)
    notebooks = list(visitor.home.glob("*.ipynb"))
    assert notebooks and all(path.stat().st_uid == visitor.uid for path in notebooks)

    told_by_prune = visitor.run("jupyter", "tfgpu", "prune", "--all")
    assert "Removed the image" in told_by_prune
    visitor.run("pip", "uninstall", "--quiet", "--yes", "tfgpu-kernel")
    assert ours(visitor) == []


def picture(page: Page) -> None:
    """Take the README's picture: the notebook with its digits, and the launcher beside it."""
    page.evaluate(
        """async () => {
            const app = window.jupyterapp;
            const notebook = app.shell.currentWidget;
            await notebook.context.save();  // the command would ask for a name first
            app.shell.collapseLeft();
            const launcher = await app.commands.execute('launcher:create');
            app.shell.add(launcher, 'main', { mode: 'split-right', ref: notebook.id });
        }"""
    )
    page.locator(".jp-LauncherCard:visible").first.wait_for()
    page.wait_for_timeout(1000)
    IMAGES.mkdir(parents=True, exist_ok=True)
    file = IMAGES / "lab.png"
    # Without Lab's own question about news in the lower corner.
    page.screenshot(path=file, animations="disabled", clip={"x": 0, "y": 0, "width": 1280, "height": 640})
    assert file.stat().st_size < 200_000
