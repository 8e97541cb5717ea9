"""Kernels outlive their server: the next one takes them up, under the same ids, with all they know."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.conftest import install

from .serving import Server


@pytest.fixture
def hasty(kernels: Path, workspace: Path, tmp_path: Path, nothing_left: None) -> Iterator[Server]:
    """Start a server that makes kernels ready also while the machine is busy."""
    config = tmp_path / "hasty.py"
    config.write_text("from tfgpu_kernel import quiet\nquiet.PATIENCE_SECONDS = 0\n")
    server = Server(workspace, (f"--config={config}",))
    server.start()
    yield server
    server.end()


def runs(server: Server) -> list[str]:
    """Return the run folders of this test's containers."""
    listing = ["docker", "ps", "--all", "--format", '{{.Label "io.tfgpu.run"}}']
    found = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()
    return [run for run in found if run.startswith(str(server.root.parent))]


def folder_of(server: Server, kernel_id: str) -> Path:
    """Return a kernel's run folder, which is the only one with its id in its state."""
    [run] = [state.parent for state in server.root.parent.glob("runtime/tfgpu/*/state.json")
             if kernel_id in state.read_text()]  # fmt: skip
    return run


def tfgpu(*arguments: str) -> str:
    """Run the command; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_servers_kernels_go_on_with_the_next(server: Server) -> None:
    """After SIGKILL: the same sessions, ids and variables; interrupt, restart and shutdown work."""
    models = [server.session(f"{name}.ipynb") for name in ("one", "two", "three")]
    kernel = models[0]["kernel"]["id"]
    with server.page(kernel) as page:
        assert page.run("import os; x = 41; print(os.getpid())")
        loop = page.send("import time\nfor n in range(600): time.sleep(0.1)")
        time.sleep(0.5)
        before = server.sessions()
        server.kill()
    server.start()
    assert server.sessions() == before
    states = {model["kernel"]["id"]: model["kernel"]["execution_state"] for model in server.get("api/sessions").json()}
    assert states[kernel] == "busy"
    began = time.monotonic()
    with server.page(kernel, page.session) as page:
        assert time.monotonic() - began < 3, "a busy kernel's page must connect at once"
        server.call("POST", f"api/kernels/{kernel}/interrupt")
        assert page.until(loop) == "KeyboardInterrupt"
        assert page.run("print(x + 1)") == "42\n"
    server.call("POST", f"api/kernels/{kernel}/restart")
    with server.page(kernel) as page:
        assert page.run("print(x)") == "NameError"
    for session in before:
        server.call("DELETE", f"api/sessions/{session}")
    assert server.sessions() == {}


def test_a_kernel_that_was_restarted_onto_a_ready_one_goes_on_with_the_next(hasty: Server) -> None:
    """After a restart that took a ready-made kernel, whose container names another folder: the next server has it, with
    all that it knows, and when nobody owns it any more, nothing of it stays."""
    server = hasty
    kernel = server.session("warm.ipynb")["kernel"]["id"]
    folder = folder_of(server, kernel)
    until(lambda: any(folder.parent.glob("*/pool.json")))
    server.call("POST", f"api/kernels/{kernel}/restart")
    until(lambda: any(path.is_symlink() for path in folder.parent.iterdir()))
    with server.page(kernel) as page:
        page.run("x = 41")
        server.kill()
    connection = server.root.parent / f"runtime/kernel-{kernel}.json"
    assert connection.exists()
    server.start()
    assert [model["id"] for model in server.get("api/kernels").json()] == [kernel]
    with server.page(kernel) as page:
        assert page.run("print(x + 1)") == "42\n"
    server.kill()
    [row] = [row for row in json.loads(tfgpu("ps", "--json")) if row["kernel_id"] == kernel]
    assert 0 < row["grace_seconds"] <= 24 * 3600
    tfgpu("prune", "--running")
    assert runs(server) == []
    assert list(folder.parent.iterdir()) == []
    assert not connection.exists(), "its key is in there"


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_a_stopped_server_ends_its_kernels_unless_told_to_detach(server: Server, kernels: Path, slim: str) -> None:
    """``on_server_stop``: "shutdown" leaves nothing, "detach" leaves the kernel to the next server."""
    install(kernels.parent.parent, "stays", "--image", slim, "--gpus", "none", "--on-server-stop", "detach")
    server.session("goes.ipynb")
    stays = server.session("stays.ipynb", "stays")
    with server.page(stays["kernel"]["id"]) as page:
        page.run("x = 5")
    server.stop()
    [run] = runs(server)
    assert run == str(folder_of(server, stays["kernel"]["id"])), "the other one's container and folder went with it"
    server.start()
    assert server.sessions() == {stays["id"]: stays["kernel"]["id"]}
    with server.page(stays["kernel"]["id"]) as page:
        assert page.run("print(x)") == "5\n"


def test_a_kernel_that_died_meanwhile_is_told_and_not_taken_up(server: Server) -> None:
    """A kernel that ended while no server ran is gone from the list, with its cause; nothing of it is left."""
    model = server.session("dies.ipynb")
    with server.page(model["kernel"]["id"]) as page:
        page.send("import os, time; time.sleep(1.5); os._exit(9)")
        time.sleep(0.5)
        server.kill()
    time.sleep(2.5)
    server.start()
    assert server.sessions() == {}
    [death] = server.get("tfgpu/deaths").json()["deaths"]
    assert death["kernel_id"] == model["kernel"]["id"]
    assert "exit code 9" in death["failure"]["message"]


def test_another_root_folders_server_leaves_a_kernel_alone(server: Server, tmp_path: Path) -> None:
    """A server takes up only what one with the same root folder left."""
    model = server.session("mine.ipynb")
    server.kill()
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other")
    other.start()
    try:
        assert other.get("api/kernels").json() == []
    finally:
        other.kill()
    server.start()
    assert server.sessions() == {model["id"]: model["kernel"]["id"]}


def test_adopt_takes_a_kernel_into_a_server_with_another_root_folder(server: Server, tmp_path: Path) -> None:
    """``adopt`` lists what runs without a server, with the time left; prune leaves it; a server that is told takes it,
    and so does the next one with that root folder."""
    kernel = server.session("mine.ipynb")["kernel"]["id"]
    with server.page(kernel) as page:
        page.run("x = 6")
    server.kill()
    [row] = [row for row in json.loads(tfgpu("adopt", "--json")) if row["kernel_id"] == kernel]
    assert (row["kernel_id"], row["root"], row["grace_seconds"]) == (kernel, str(server.root), 24 * 3600)
    assert "Kept 1 kernel" in tfgpu("prune")
    [row] = [row for row in json.loads(tfgpu("ps", "--json")) if row["kernel_id"] == kernel]
    assert 3600 - 60 < row["grace_seconds"] < 3600, "the sweep has started the clock of an idle one"
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other")
    other.start()
    try:
        assert other.get("api/kernels").json() == []
        assert kernel in tfgpu("adopt", kernel[:8], "--server", f"http://127.0.0.1:{other.port}")
        assert kernel not in tfgpu("adopt", "--json")
        with other.page(kernel) as page:
            assert page.run("print(x)") == "6\n"
        other.call("POST", f"api/kernels/{kernel}/interrupt")
        other.kill()
        other.start()
        assert [model["id"] for model in other.get("api/kernels").json()] == [kernel]
        other.call("DELETE", f"api/kernels/{kernel}")
    finally:
        other.kill()
    assert runs(server) == []


@pytest.mark.nightly
def test_one_that_cannot_be_taken_up_is_told_and_waits(server: Server) -> None:
    """Something is in the way of one of two kernels: the other goes on, Lab is told of the one, and later
    ``adopt`` takes that up, too."""
    stuck, free = [server.session(f"{name}.ipynb")["kernel"]["id"] for name in ("stuck", "free")]
    with server.page(stuck) as page:
        page.run("x = 6")
    server.kill()
    owner = folder_of(server, stuck) / "owner"
    owner.rename(owner.with_name("aside"))
    owner.mkdir()
    server.start()
    assert list(server.sessions().values()) == [free]
    [told] = server.get("tfgpu/deaths").json()["deaths"]
    assert (told["kernel_id"], told["path"], told["failure"]["actions"]) == (stuck, "stuck.ipynb", [])
    assert told["failure"]["message"].startswith("The kernel of stuck.ipynb goes on, but this server could not take it")
    assert f"jupyter tfgpu adopt {stuck[:12]}" in told["failure"]["remedy"]
    with server.page(free) as page:
        assert page.run("print(1)") == "1\n"
    owner.rmdir()
    owner.with_name("aside").rename(owner)
    tfgpu("adopt", stuck, "--server", f"http://127.0.0.1:{server.port}")
    assert set(server.sessions().values()) == {stuck, free}
    with server.page(stuck) as page:
        assert page.run("print(x)") == "6\n"


def test_adopt_ends_a_kernel_that_nobody_wants(server: Server) -> None:
    """``adopt --stop`` ends one, and nothing of it is left; a server that isn't there is told with what to do."""
    kernel = server.session("mine.ipynb")["kernel"]["id"]
    server.kill()
    done = subprocess.run(
        [sys.executable, "-m", "tfgpu_kernel.cli", "adopt", kernel, "--server", "http://127.0.0.1:9"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "jupyter server list" in done.stderr or "start one" in done.stderr
    tfgpu("adopt", kernel[:8], "--stop")
    assert runs(server) == [] and kernel not in tfgpu("adopt", "--json")
