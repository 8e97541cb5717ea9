"""What browser tests share: one JupyterLab with Docker behind it, one Chromium, and a fresh tab for each test.

They last as long as this package's tests: Playwright keeps a running event loop, which asynchronous tests can't stand.
A test that fails leaves a picture of its tab, the console's log and the server's log in build/browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.images import recipes

from .page import Lab
from .serving import Server, running

KEPT: Final = Path(__file__).parents[2] / "build/browser"
_CHROMIUM: Final = ("chromium", "google-chrome", "chromium-browser")
_FAILED: Final = pytest.StashKey[bool]()


# A busy machine shows late what it shows at all; tests that have a limit to keep name it.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="package")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what keeps Chromium from dropping requests whenever a container comes or goes."""
    library = tmp_path_factory.mktemp("still") / "still.so"
    source = Path(__file__).with_name("still.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.fixture(scope="package")
def browser(still: Path) -> Iterator[Browser]:
    """Run Chromium, the system's own."""
    chosen = os.environ.get("TFGPU_CHROMIUM")
    program = next(filter(None, map(shutil.which, [chosen] if chosen else _CHROMIUM)), None)
    assert program, "browser tests need Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            env={**os.environ, "LD_PRELOAD": str(still)},
        )
        yield chromium
        chromium.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="tfb-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="package")
def shared_server() -> Iterator[Server]:
    """Run one JupyterLab for all tests that need nothing of their own.

    Its ``tfgpu`` is an image with TensorFlow that visibly needs no GPU; ``slim`` has no TensorFlow and starts fast.
    """
    made = Path(tempfile.mkdtemp(prefix="tfb-"))
    try:
        with running(made) as server:
            common: dict[str, Any] = {"gpus": "none", "network": "none"}
            server.kernelspec("tfgpu", "TensorFlow GPU (Docker)", image=recipes.ensure("tf:py311"), **common)
            server.kernelspec("slim", "Slim (Docker)", image=recipes.ensure("slim"), **common)
            yield server
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """Give the shared JupyterLab; afterwards there are no kernels, containers, run folders or notebooks."""
    yield shared_server
    shared_server.end_kernels()
    left: list[Any] = []
    for _ in range(50):
        left = [*shared_server.containers(), *shared_server.run_folders()]
        if not left:
            break
        time.sleep(0.1)
    for entry in [*shared_server.root.iterdir(), *(shared_server.folder / "workspaces").iterdir()]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    assert not left, f"left behind: {left}"


@pytest.fixture
def lab(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a fresh tab on the shared JupyterLab."""
    yield from tab(server, browser, request)


def tab(
    server: Server, browser: Browser, request: pytest.FixtureRequest, path: str = "lab?reset", script: str = ""
) -> Iterator[Lab]:
    """Open a tab on a server, and judge it at the end; for fixtures with a server of their own, too.

    :param script: what the page runs before anything of its own.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="null")
    lab = Lab(context.new_page(), server)
    if script:
        lab.page.add_init_script(script)
    try:
        lab.open(path)
        yield lab
        if request.node.stash.get(_FAILED, False) or lab.unexpected:
            _keep(lab, request.node)
        assert not lab.unexpected, f"the console told of errors: {lab.unexpected}"
    except BaseException:
        _keep(lab, request.node)
        raise
    finally:
        context.close()


def _keep(lab: Lab, node: pytest.Item) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    stem = KEPT / re.sub(r"[^\w.-]+", "-", node.name)
    lab.page.screenshot(path=f"{stem}.png")
    Path(f"{stem}.console.log").write_text("\n".join([*lab.console, *lab.errors]))
    shutil.copy(lab.server.log, f"{stem}.server.log")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test failed, so that its tab's end knows."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report
