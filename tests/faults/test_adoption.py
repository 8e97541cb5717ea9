"""Kernels outlive their server: the next one takes them up, under the same ids, with all they know."""

from __future__ import annotations

import time
from pathlib import Path

from tests.live.conftest import install

from .serving import Server


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


def test_a_stopped_server_ends_its_kernels_unless_told_to_detach(server: Server, kernels: Path, slim: str) -> None:
    """``on_server_stop``: "shutdown" leaves nothing, "detach" leaves the kernel to the next server."""
    install(kernels.parent.parent, "stays", "--image", slim, "--gpus", "none", "--on-server-stop", "detach")
    server.session("goes.ipynb")
    stays = server.session("stays.ipynb", "stays")
    with server.page(stays["kernel"]["id"]) as page:
        page.run("x = 5")
    server.stop()
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
