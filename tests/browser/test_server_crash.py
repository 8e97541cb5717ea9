"""The server is killed in the middle of a training: what a person sees on the page left open, and on a new one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.images import recipes

from .conftest import tab
from .page import Lab
from .serving import Server, _wait, running

EPOCHS = 40
TIMES = int(os.environ.get("TFGPU_TEST_CRASHES", "20"))
"""How often in a row each of the two is tried."""
TRAINING = f"""
import time
import numpy as np, tensorflow as tf
x = np.random.rand(64, 8).astype('float32')
model = tf.keras.Sequential([tf.keras.layers.Dense(4), tf.keras.layers.Dense(1)])
model.compile('sgd', 'mse')
tell = tf.keras.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: (print('epoch', epoch, flush=True), time.sleep(0.4)))
model.fit(x, x[:, :1], epochs={EPOCHS}, verbose=0, callbacks=[tell])
print('trained')
"""
LEFT_MS = 120_000


@pytest.fixture
def own(folder: Path) -> Iterator[Server]:
    """Run a JupyterLab of the test's own, that can be killed."""
    with running(folder) as server:
        server.kernelspec(
            "tf", "TF (Docker)", image=recipes.ensure("tf:py311"), gpus="none", gpu_required=False, network="none"
        )
        yield server
        server.end_kernels()


@pytest.fixture
def lab(own: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a tab on it."""
    yield from tab(own, browser, request)


def kill(server: Server) -> tuple[list[str], dict[str, str], str]:
    """End the server as a crash would; return how to start it again."""
    proc = Path(f"/proc/{server.process.pid}")
    words = [word.decode() for word in (proc / "cmdline").read_bytes().split(b"\0")[:-1]]
    pairs = [pair.decode().partition("=") for pair in (proc / "environ").read_bytes().split(b"\0") if pair]
    folder = os.readlink(proc / "cwd")
    server.process.kill()
    server.process.wait()
    return words, {name: value for name, _, value in pairs}, folder


def start_again(server: Server, how: tuple[list[str], dict[str, str], str]) -> float:
    """Start it again on the same port; return how many seconds that took."""
    words, env, folder = how
    began = time.monotonic()
    with server.log.open("ab") as log:
        server.process = subprocess.Popen(
            words, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    _wait(server)
    return time.monotonic() - began


def sessions(server: Server) -> dict[str, str]:
    """Return the kernel ids by session id."""
    return {model["id"]: model["kernel"]["id"] for model in server.ask("GET", "api/sessions").json()}


def printed(lab: Lab, text: str) -> None:
    """Wait until a cell of the notebook has printed a text."""
    outputs = lab.page.locator(".jp-NotebookPanel:visible .jp-OutputArea-output")
    expect(outputs.filter(has_text=text).first).to_be_visible(timeout=LEFT_MS)


def crash_in_training(lab: Lab, server: Server) -> dict[str, str]:
    """Start three kernels, kill the server in the middle of one's training, start it again after a while."""
    for name in ("second", "third"):
        kernel = {"path": f"{name}.ipynb", "name": "", "type": "notebook", "kernel": {"name": "tf"}}
        assert server.ask("POST", "api/sessions", json=kernel).ok
    lab.expect_error("ERR_|Failed to fetch|WebSocket|Failed to load|Connection lost|status of 50|TypeError")
    server.notebook("training.ipynb", TRAINING, kernel="tf")
    lab.open()
    lab.notebook("training.ipynb")
    lab.idle()
    lab.run(TRAINING)
    printed(lab, "epoch 5")
    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    before = sessions(server)
    assert len(before) == 3
    how = kill(server)
    time.sleep(3)
    took = start_again(server, how)
    began = time.monotonic()
    assert sessions(server) == before
    print(f"the server was back after {took:.1f} s, the sessions were there {time.monotonic() - began:.2f} s later")
    return before


def check(lab: Lab, server: Server, before: dict[str, str]) -> None:
    """Every epoch is on the page, once, in order; interrupt and shutdown work."""
    printed(lab, "trained")
    text = lab.page.locator(".jp-NotebookPanel:visible .jp-OutputArea-output").all_inner_texts()
    epochs = [line for line in "\n".join(text).splitlines() if line.startswith("epoch")]
    assert epochs == [f"epoch {epoch}" for epoch in range(EPOCHS)]
    lab.idle()
    kernel = next(iter(before.values()))
    assert server.ask("POST", f"api/kernels/{kernel}/interrupt").ok
    for session in before:
        assert server.ask("DELETE", f"api/sessions/{session}").ok
    assert sessions(server) == {}


@pytest.mark.timeout(400)
@pytest.mark.nightly
@pytest.mark.parametrize("time", range(TIMES))
def test_a_page_left_open_shows_every_epoch(lab: Lab, own: Server, time: int) -> None:
    """The page reconnects by itself; the training's lines go on in its cell as if nothing had been."""
    check(lab, own, crash_in_training(lab, own))


@pytest.mark.timeout(400)
@pytest.mark.nightly
@pytest.mark.parametrize("time", range(TIMES))
def test_a_page_loaded_anew_shows_every_epoch(lab: Lab, own: Server, time: int) -> None:
    """The page is loaded anew while the training goes on: what was missed and what follows is in the cell."""
    before = crash_in_training(lab, own)
    lab.page.reload()
    lab.ready()
    if lab.page.locator(".jp-NotebookPanel:visible").count() == 0:
        lab.notebook("training.ipynb")
    check(lab, own, before)


@pytest.mark.timeout(400)
@pytest.mark.nightly
def test_run_all_of_an_old_notebook_is_followed_on_a_page_loaded_anew(lab: Lab, own: Server) -> None:
    """A notebook of nbformat 4.4 has no ids: the silent cell that runs, and those that wait, go on in their places."""
    lab.expect_error("ERR_|Failed to fetch|WebSocket|Failed to load|Connection lost|status of 50|TypeError")
    silent = "import os, time\nprint('begun')\nwhile not os.path.exists('go'): time.sleep(0.1)\nprint('waited')"
    own.notebook("old.ipynb", silent, *(f"print('cell {n}')" for n in range(1, 4)), kernel="tf", minor=4)
    lab.open()
    lab.notebook("old.ipynb")
    lab.idle()
    lab.command("notebook:run-all-cells")
    printed(lab, "begun")
    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    how = kill(own)
    time.sleep(2)
    start_again(own, how)
    lab.page.reload()
    lab.ready()
    if lab.page.locator(".jp-NotebookPanel:visible").count() == 0:
        lab.notebook("old.ipynb")
    panel = lab.page.locator(".jp-NotebookPanel:visible")
    prompts = panel.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts).to_have_text(["[*]:"] * 4, timeout=LEFT_MS)
    (own.root / "go").touch()
    expect(prompts).to_have_text([f"[{n}]:" for n in range(1, 5)], timeout=LEFT_MS)
    for number, text in enumerate(["begun\nwaited", "cell 1", "cell 2", "cell 3"]):
        expect(panel.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea-output")).to_have_text(text)
