"""GPUs by notebook, as a person sees them: a real JupyterLab, an engine that lends doubled GPUs, real containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from tests.doubles.state import GIB, MIB, Process, State, machine
from tests.live import gpu_machine
from tests.live.gpu_machine import Machine, needs_own_engine

from .conftest import tab
from .page import Lab
from .serving import Server, running

PROMPT_MS = 3000
"""How soon a change must be on the page."""


pytestmark = needs_own_engine


@dataclass
class Driver:
    """The doubled driver, which as a real one forgets the memory of processes that have ended."""

    machine: Machine
    state: State
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Process id to GPU and bytes."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def hold(self, pid: int, gpu: int, used_bytes: int) -> None:
        """Let a process hold so much memory of a GPU."""
        self.held[pid] = (gpu, used_bytes)
        self._show()

    def set(self, state: State) -> None:
        """Change the machine, and leave the processes."""
        self.state = state
        self._show()

    def watch(self) -> None:
        """Forget ended processes, until the test is over."""
        while not self._stop.wait(0.1):
            ended = [pid for pid in self.held if not os.path.exists(f"/proc/{pid}")]
            if ended:
                for pid in ended:
                    del self.held[pid]
                self._show()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _show(self) -> None:
        state = self.state
        for index in range(len(state.gpus)):
            mine = [Process(pid, used) for pid, (gpu, used) in self.held.items() if gpu == index]
            used = sum(process.used_bytes or 0 for process in mine)
            state = state.with_gpu(index, processes=tuple(mine), used_bytes=used)
        self.machine.set(state)


@pytest.fixture(scope="module")
def gpu_server() -> Iterator[tuple[Server, Machine]]:
    """Run a JupyterLab on a machine with GPUs: ``gpu0`` is a kernel on the first, ``cpu`` one on none."""
    made = Path(tempfile.mkdtemp(prefix="tfg-"))
    (made / "machine").mkdir()
    try:
        with gpu_machine.running(made / "machine") as machine, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", machine.daemon.host)
            with running(made, env=machine.toolkit.env) as server:
                common: dict[str, Any] = {"image": gpu_machine.SLIM, "network": "none", "pool_size": 0}
                for index in range(8):
                    name = f"TensorFlow on GPU {index}"
                    server.kernelspec(f"gpu{index}", name, gpus=[str(index)], memory="512m", **common)
                server.kernelspec("cpu", "TensorFlow CPU", gpus=0, **common)
                yield server, machine
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def driver(gpu_server: tuple[Server, Machine]) -> Iterator[Driver]:
    """Give the machine with two GPUs and nothing on them; afterwards no kernel runs."""
    server, where = gpu_server
    driver = Driver(where, machine(2))
    driver.set(machine(2))
    thread = threading.Thread(target=driver.watch)
    thread.start()
    yield driver
    driver.stop()
    thread.join()
    server.end_kernels()
    deadline = time.monotonic() + 10
    while server.containers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.containers()


@pytest.fixture
def gpu_lab(
    gpu_server: tuple[Server, Machine], driver: Driver, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[Lab]:
    """Open a tab on the server that sees GPUs."""
    yield from tab(gpu_server[0], browser, request)


def start(lab: Lab, path: str, kernel: str = "gpu0") -> int:
    """Start a notebook's kernel; return the host process id of its Python."""
    server = lab.server
    if not (server.root / path).exists():
        server.notebook(path, "1", kernel=kernel)
    answer = server.ask(
        "POST", "api/sessions", json={"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
    )
    assert answer.status_code == 201, answer.text
    return process(server, answer.json()["kernel"]["id"])


def process(server: Server, kernel_id: str) -> int:
    """Return the host process id of a kernel's Python."""
    states = [json.loads(file.read_text()) for file in server.runtime.glob("tfgpu/*/state.json")]
    [container] = [state["container"] for state in states if state["kernel_id"] == kernel_id]
    return python_of(container)


def python_of(container: str) -> int:
    """Return the host process id of a container's Python, as ``docker top`` has it."""
    lines = subprocess.run(
        ["docker", "top", container, "-eo", "pid,comm"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return next(int(line.split()[0]) for line in lines if "python" in line)


def panel(lab: Lab) -> Locator:
    """Open the panel by its command."""
    lab.command("tfgpu:open-panel")
    found = lab.page.locator("#tfgpu-panel")
    expect(found).to_be_visible()
    return found


def gpu(lab: Lab, index: int) -> Locator:
    """Return a GPU's card, found as a screen reader finds it."""
    return lab.page.get_by_role("region", name=re.compile(f"^GPU {index} "))


def test_two_notebooks_on_two_gpus_appear_by_name(gpu_lab: Lab, driver: Driver) -> None:
    """Each notebook's memory stands under its GPU, by name, within three seconds of the change."""
    alpha, beta = start(gpu_lab, "alpha.ipynb"), start(gpu_lab, "beta.ipynb", "gpu1")
    panel(gpu_lab)
    expect(gpu(gpu_lab, 1)).to_be_visible()
    driver.hold(alpha, 0, 8 * GIB)
    driver.hold(beta, 1, 12 * GIB + 512 * MIB)
    first, second = gpu(gpu_lab, 0), gpu(gpu_lab, 1)
    expect(first.get_by_role("listitem")).to_contain_text(re.compile(r"alpha\.ipynb.*8 GiB"), timeout=PROMPT_MS)
    expect(second.get_by_role("listitem")).to_contain_text(re.compile(r"beta\.ipynb.*12\.5 GiB"), timeout=PROMPT_MS)
    expect(first).not_to_contain_text("beta")
    driver.hold(alpha, 0, 3 * GIB)
    expect(first.get_by_role("listitem")).to_contain_text("3 GiB", timeout=PROMPT_MS)


def test_memory_stands_against_its_limit_and_the_rest_is_summed(gpu_lab: Lab, driver: Driver) -> None:
    """Main memory with the container's limit, other processes in one sum, the driver's own apart."""
    alpha = start(gpu_lab, "alpha.ipynb")
    start(gpu_lab, "cpu.ipynb", "cpu")
    driver.hold(alpha, 0, 2 * GIB)
    with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as other:
        driver.hold(one.pid, 0, GIB)
        driver.hold(other.pid, 0, GIB)
        shown = panel(gpu_lab)
        first = gpu(gpu_lab, 0)
        expect(first).to_contain_text(re.compile(r"2 other processes\s*2 GiB"))
        expect(first).to_contain_text(re.compile(r"Driver.s own\s*600 MiB"))
        expect(first.get_by_role("listitem")).to_contain_text(re.compile(r"\d+ MiB of 512 MiB RAM"))
        without = shown.get_by_role("region", name="Kernels without a GPU")
        expect(without).to_contain_text(re.compile(r"cpu\.ipynb.*\d+ MiB RAM"))
        one.kill()
        other.kill()


def test_shut_down_frees_the_gpu_and_the_panel_shows_it(gpu_lab: Lab, driver: Driver) -> None:
    """The panel's button ends the kernel and its container, after a question, and the memory is free."""
    driver.hold(start(gpu_lab, "alpha.ipynb"), 0, 8 * GIB)
    panel(gpu_lab)
    button = gpu(gpu_lab, 0).get_by_role("button", name="Shut Down: alpha.ipynb")
    expect(button).to_be_visible()
    button.focus()
    gpu_lab.page.keyboard.press("Enter")
    gpu_lab.page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_have_count(0, timeout=15_000)
    expect(gpu(gpu_lab, 0)).to_contain_text("39.4 GiB free")
    assert not gpu_lab.server.containers()
    assert gpu_lab.server.ask("GET", "api/kernels").json() == []


def test_open_interrupt_and_restart_act_on_the_kernel(gpu_lab: Lab, driver: Driver) -> None:
    """The name opens the notebook; interrupt stops its cell; restart gives a new kernel, in another container."""
    driver.hold(start(gpu_lab, "alpha.ipynb"), 0, GIB)
    panel(gpu_lab)
    row = gpu(gpu_lab, 0).get_by_role("listitem")
    row.get_by_role("button", name="alpha.ipynb", exact=True).click()
    gpu_lab.idle()
    cell = gpu_lab.run("import time\ntime.sleep(100)")
    expect(row).to_contain_text("busy")
    row.get_by_role("button", name="Interrupt: alpha.ipynb").click()
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("KeyboardInterrupt", timeout=10_000)
    before = gpu_lab.server.containers()
    row.get_by_role("button", name="Restart: alpha.ipynb").click()
    gpu_lab.page.locator(".jp-Dialog .jp-mod-warn").click()
    gpu_lab.until(lambda: len(now := gpu_lab.server.containers()) == 1 and now != before, 40)
    expect(row.locator(".tfgpu-Row-memory")).to_have_text("0 MiB")
    gpu_lab.idle()


def test_a_kernel_is_restarted_on_another_gpu(gpu_lab: Lab, driver: Driver) -> None:
    """The command offers the other GPUs with what is free there; the kernel then has the chosen one, and no other."""
    driver.hold(start(gpu_lab, "alpha.ipynb"), 0, GIB)
    gpu_lab.notebook("alpha.ipynb")
    gpu_lab.idle()
    panel(gpu_lab)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_contain_text("alpha.ipynb")
    gpu_lab.command("tfgpu:restart-on-gpu")
    dialog = gpu_lab.page.locator(".jp-Dialog")
    expect(dialog.locator("option")).to_have_text(["GPU 1, A100-SXM4-40GB: 39.4 GiB free"])
    dialog.locator(".jp-mod-accept").click()
    expect(gpu(gpu_lab, 1).get_by_role("listitem")).to_contain_text("alpha.ipynb", timeout=20_000)
    expect(gpu(gpu_lab, 0).get_by_role("listitem")).to_have_count(0)
    [container] = driver.machine.kernels()
    assert driver.machine.toolkit.granted(container) == [machine(2).gpus[1].uuid]


def test_rows_are_sorted_as_wished(gpu_lab: Lab, driver: Driver) -> None:
    """By memory, or by name; the choice is a labelled control."""
    for name, size in (("c.ipynb", 1), ("a.ipynb", 2), ("b.ipynb", 3)):
        driver.hold(start(gpu_lab, name), 0, size * GIB)
    shown = panel(gpu_lab)
    rows = gpu(gpu_lab, 0).locator(".tfgpu-Row-link")
    expect(rows).to_have_text(["b.ipynb", "a.ipynb", "c.ipynb"])
    shown.get_by_label("Sort by").select_option("name")
    expect(rows).to_have_text(["a.ipynb", "b.ipynb", "c.ipynb"])


def test_labs_own_running_panel_has_the_figure(gpu_lab: Lab, driver: Driver) -> None:
    """What JupyterLab lists as running tells GPU memory by notebook, too."""
    driver.hold(start(gpu_lab, "alpha.ipynb", "gpu1"), 1, 5 * GIB)
    gpu_lab.command("running:show-panel")
    item = gpu_lab.page.locator(".jp-RunningSessions-item", has_text="on GPU 1")
    expect(item).to_contain_text(re.compile(r"alpha\.ipynb.*5 GiB on GPU 1"))


def test_a_nearly_full_gpu_names_who_could_go(gpu_lab: Lab, driver: Driver) -> None:
    """A warning names the idle notebook that holds most and offers to end it; when there is room, it goes."""
    gpu_lab.page.evaluate(
        """async () => {
            const settings = await fetch('/base/lab/api/settings/@tfgpu/labextension:model', {
                method: 'PUT', body: JSON.stringify({ raw: JSON.stringify({ idleMinutes: 0 }) }),
                headers: { 'X-XSRFToken': document.cookie.match(/_xsrf=([^;]*)/)?.[1] ?? '' }
            });
            if (!settings.ok) { throw new Error(String(settings.status)); }
        }"""
    )
    gpu_lab.reload()
    driver.hold(start(gpu_lab, "small.ipynb"), 0, 10 * GIB)
    driver.hold(start(gpu_lab, "big.ipynb"), 0, 28 * GIB)
    toast = gpu_lab.page.locator(".Toastify__toast", has_text="nearly full")
    expect(toast).to_contain_text(re.compile(r"GPU 0 is nearly full.*big\.ipynb has done nothing.*holds 28 GiB"))
    expect(toast).to_have_count(1)
    toast.get_by_role("button", name="Shut Down big.ipynb").click()
    gpu_lab.page.locator(".jp-Dialog .jp-mod-warn").click()
    expect(gpu_lab.page.locator(".Toastify__toast", has_text="nearly full")).to_have_count(0, timeout=20_000)
    gpu_lab.until(
        lambda: [one["path"] for one in gpu_lab.server.ask("GET", "api/sessions").json()] == ["small.ipynb"]
    )


def test_the_status_bar_tells_use_and_memory(gpu_lab: Lab, driver: Driver) -> None:
    """All GPUs in one figure, each in the tooltip, and a click opens the panel; a lost GPU is told in both."""
    driver.set(machine(2).with_gpu(0, utilisation_percent=80).with_gpu(1, utilisation_percent=20))
    item = gpu_lab.page.locator(".tfgpu-Status-button:visible")
    expect(item).to_contain_text(re.compile(r"50% · 0 of 78\.8 GiB"))
    expect(item).to_have_attribute("title", re.compile(r"GPU 0 NVIDIA A100.*80% in use.*\nGPU 1 .*20% in use", re.S))
    item.click()
    expect(gpu_lab.page.locator("#tfgpu-panel")).to_be_visible()
    driver.set(machine(2).with_gpu(1, errors={"*": 15}))
    expect(gpu_lab.page.locator("#tfgpu-panel").get_by_role("alert")).to_contain_text("off the bus")
    expect(item).to_have_attribute("title", re.compile("GPU 1: a GPU has fallen off the bus"))


def test_a_hidden_tab_asks_nothing(gpu_lab: Lab) -> None:
    """A page that nobody sees sends no request; one that is seen again goes on."""
    asked: list[float] = []
    gpu_lab.page.on("request", lambda request: asked.append(time.monotonic()) if "/tfgpu/gpus" in request.url else None)
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        const state = hidden ? 'hidden' : 'visible';
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    gpu_lab.until(lambda: len(asked) >= 2)
    gpu_lab.page.evaluate(hide, True)
    gpu_lab.page.wait_for_timeout(500)
    asked.clear()
    gpu_lab.page.wait_for_timeout(5000)
    assert not asked
    gpu_lab.page.evaluate(hide, False)
    gpu_lab.until(lambda: bool(asked))


def test_a_reload_keeps_the_history(gpu_lab: Lab, driver: Driver) -> None:
    """The history is the server's, so a page that was just loaded shows what was before it."""
    panel(gpu_lab)
    gpu_lab.page.wait_for_timeout(6500)
    gpu_lab.reload()
    with gpu_lab.page.expect_response(lambda answer: "/tfgpu/gpus?since=0" in answer.url) as first:
        gpu_lab.reload()
    assert len(first.value.json()["history"]["times"]) >= 3


# -- pictures ------------------------------------------------------------------------------------------


def past(route: Route) -> None:
    """Put ten plausible minutes in place of what the server just began to sample."""
    answer = route.fetch()
    report = answer.json()
    history, now = report["history"], report["time"]
    if re.search(r"since=0\b", route.request.url):
        times = [now - 600 + 2 * step for step in range(298)]
        for number, one in enumerate(report["gpus"]):
            series = history["gpus"][one["uuid"]] = {}
            begin = 40 + 37 * number % 180
            use, used = one["use_percent"] or 0, one["memory"]["used_bytes"]
            series["use_percent"] = [
                0 if step < begin or not used else max(0, min(100, use + step * 7919 % 23 - 11 - 25 * (step % 40 < 5)))
                for step in range(298)
            ]
            series["used_bytes"] = [
                0 if step < begin else min(used, used * (step - begin) // 60) for step in range(298)
            ]
        history["times"] = times
    route.fulfill(response=answer, json=report)


@pytest.mark.nightly
@pytest.mark.picture
@pytest.mark.parametrize("count", [1, 8])
def test_pictures_of_the_panel(gpu_lab: Lab, driver: Driver, count: int) -> None:
    """The panel with one GPU, and with eight, light and dark, for the documentation; it fits into its place."""
    state = machine(count)
    for index, use in enumerate((87, 64, 0, 12, 98, 0, 31, 0)[:count]):
        state = state.with_gpu(index, utilisation_percent=use)
    driver.set(state)
    names = ["mnist_mlp.ipynb", "notes.ipynb", "segmentation.ipynb", "finetune-bert.ipynb"][: 2 if count == 1 else 4]
    pids = [start(gpu_lab, name, f"gpu{gpu}") for name, gpu in zip(names, (0, 0, 1, 3), strict=False)]
    driver.hold(pids[0], 0, 11 * GIB + 300 * MIB)
    driver.hold(pids[1], 0, 3 * GIB + 600 * MIB)
    with subprocess.Popen(["sleep", "120"]) as foreign:
        driver.hold(foreign.pid, min(count - 1, 4), 6 * GIB)
        if count == 8:
            driver.hold(pids[2], 1, 33 * GIB)
            driver.hold(pids[3], 3, 17 * GIB + 900 * MIB)
        gpu_lab.page.route("**/tfgpu/gpus**", past)
        gpu_lab.page.set_viewport_size({"width": 1280, "height": 800 if count == 1 else 1560})
        gpu_lab.reload()
        for name in reversed(names):
            gpu_lab.notebook(name)
            gpu_lab.idle()
        gpu_lab.run("import time\ntime.sleep(60)")
        shown = panel(gpu_lab)
        expect(shown.get_by_text("busy")).to_be_visible()
        gpu_lab.page.wait_for_timeout(2500)
        if count == 1:
            gpu_lab.picture("panel-in-lab")
        gpu_lab.picture(f"panel-{count}-gpu" + "s" * (count > 1), shown)
        wide = shown.evaluate("node => node.scrollWidth - node.clientWidth")
        assert wide <= 0, "something sticks out of the panel"
        foreign.kill()
