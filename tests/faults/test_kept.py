"""What a kernel prints while no server is there reaches the page: one that was left open, and one loaded anew."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.live.conftest import install, made
from tfgpu_kernel import kept
from tfgpu_kernel.asked import fingerprint
from tfgpu_kernel.runfolder import RunFolder

from .serving import Page, Server

COUNT = "import time\nfor n in range(%d):\n    print(n)\n    time.sleep(0.02)"

PAUSED = """import os, time
for n in range(200):
    if n == 10:
        while not os.path.exists("go"):
            time.sleep(0.02)
    print(str(n).ljust(20000))
    time.sleep(0.03)"""
"""Counts as COUNT does, with many spaces, and at 10 waits for a file."""


def gaps(text: str, upto: int) -> list[str]:
    """Return what is lost, doubled or out of order in what COUNT printed."""
    got = text.split()
    wanted = [str(n) for n in range(upto)]
    if got == wanted:
        return []
    lost = [n for n in wanted if n not in got]
    doubled = sorted({n for n in got if got.count(n) > 1}, key=int)
    return [f"lost {lost}", f"doubled {doubled}", "order"]


def left(server: Server, kernel: str, upto: int, cell: str = "") -> tuple[str, str, str]:
    """Kill the server while a cell counts; return the page's session, the request, and what it had seen."""
    with server.page(kernel) as page:
        request = page.send(COUNT % upto, cell)
        seen = page.until(request, lambda text: text.count("\n") >= 10)
        # A server that is killed between handing a message over and noting that has no record of it: it comes twice.
        time.sleep(0.05)
        server.kill()
        return page.session, request, seen + page.rest(request)


def left_by_page(server: Server, kernel: str) -> tuple[str, str, str]:
    """Have the page leave in the middle of PAUSED, and the cell print on; return what :func:`left` does."""
    with server.page(kernel) as page:
        request = page.send(PAUSED, "c1")
        seen = page.until(request, lambda text: text.count("\n") >= 10)
    (server.root / "go").touch()
    time.sleep(2)
    return page.session, request, seen


def taken_by(page: Page, server: Server, kernel: str, request: str) -> str:
    """Do what the lab extension does on a page loaded anew; return what is then in the cell c1."""
    [taken] = server.call("GET", f"tfgpu/kept/{kernel}").json()["requests"]
    assert (taken["cell_id"], taken["msg_id"]) == ("c1", request)
    known = {message["id"] for message in taken["messages"]}
    assert taken["whole"]  # from the cell's beginning: a page loaded anew may not have been saved
    text = "".join(message["content"].get("text", "") for message in taken["messages"])
    ended = any(message["content"].get("execution_state") == "idle" for message in taken["messages"])
    for message in () if ended else page.messages():
        if message["parent_header"].get("msg_id") == request and message["header"]["msg_id"] not in known:
            text += message["content"].get("text", "")
            if message["content"].get("execution_state") == "idle":
                break
    return text


def test_a_page_left_open_sees_every_line_once_while_the_cell_goes_on(server: Server) -> None:
    """The cell outlasts the server's absence: no line is lost or doubled, and the reply arrives."""
    kernel = server.session("open.ipynb")["kernel"]["id"]
    session, request, before = left(server, kernel, 400)
    server.start()
    with server.page(kernel, session) as page:
        assert gaps(before + page.until(request), 400) == []
        assert page.run("print(n)") == "399\n"


def test_a_page_left_open_sees_the_end_of_a_cell_that_ended_meanwhile(server: Server) -> None:
    """The cell ends while no server is there: its last lines and its reply, which nobody could take, arrive."""
    kernel = server.session("open.ipynb")["kernel"]["id"]
    session, request, before = left(server, kernel, 40)
    time.sleep(2)
    server.start()
    with server.page(kernel, session) as page:
        assert gaps(before + page.until(request), 40) == []
        assert page.run("print(n)") == "39\n"


def test_a_page_loaded_anew_takes_the_lines_by_cell(server: Server) -> None:
    """Another session gets nothing on its channels that it can't place; a call gives all, by cell, until one has it."""
    kernel = server.session("anew.ipynb")["kernel"]["id"]
    _, request, _ = left(server, kernel, 200, cell="c1")
    server.start()
    with server.page(kernel) as anew:
        server.call("GET", f"tfgpu/kept/{kernel}")  # the answer is lost: this page is loaded anew, too
        assert gaps(taken_by(anew, server, kernel, request), 200) == []
        assert server.call("DELETE", f"tfgpu/kept/{kernel}").status_code == 204
        assert server.call("GET", f"tfgpu/kept/{kernel}").json() == {"requests": []}


def test_what_servers_held_for_a_page_that_had_left_is_kept_when_they_are_killed(server: Server) -> None:
    """The page leaves, then the server is killed, and so is the next one: no line is lost or doubled."""
    kernel = server.session("open.ipynb")["kernel"]["id"]
    session, request, before = left_by_page(server, kernel)
    server.kill()
    server.start()
    time.sleep(2.5)  # beyond what the kernel keeps when the server comes
    server.kill()
    server.start()
    with server.page(kernel, session) as page:
        assert gaps(before + page.until(request), 200) == []


@pytest.mark.nightly
def test_what_a_server_held_for_a_page_that_had_left_is_kept_when_it_detaches(
    server: Server, kernels: Path, slim: str
) -> None:
    """The page leaves, then the server is stopped in good order: a page loaded anew has each line."""
    install(kernels.parent.parent, "stays", "--image", slim, "--gpus", "none", "--on-server-stop", "detach")
    kernel = server.session("anew.ipynb", "stays")["kernel"]["id"]
    _, request, _ = left_by_page(server, kernel)
    server.stop()
    server.start()
    with server.page(kernel) as anew:
        assert gaps(taken_by(anew, server, kernel, request), 200) == []


@pytest.mark.nightly
def test_all_cells_of_run_all_are_followed(server: Server) -> None:
    """A silent cell runs and two wait for it, when the server is killed: a page loaded anew is told where all belong.

    What that page has no cell for stays for the next one. Once they have ended, no page is told of them any more.
    """
    kernel = server.session("all.ipynb")["kernel"]["id"]
    with server.page(kernel) as page:
        page.run("import time")
        asked = [page.send(code, cell) for code, cell in (("time.sleep(15)", "c1"), ("print(1)", "c2"), ("2", "c3"))]
        time.sleep(0.5)
        server.kill()
    server.start()
    with server.page(kernel) as anew:
        found = server.call("GET", f"tfgpu/kept/{kernel}").json()["requests"]
        assert [(one["cell_id"], one["msg_id"]) for one in found] == list(zip(("c1", "c2", "c3"), asked, strict=True))
        assert found[1]["code"] == fingerprint("print(1)")
        left = asked[1:2]  # its cell is not on this page
        assert server.call("DELETE", f"tfgpu/kept/{kernel}", {"left": left}).status_code == 204
        anew.until_idle(asked[-1])
        [kept_one] = server.call("GET", f"tfgpu/kept/{kernel}").json()["requests"]
        assert [one["content"].get("text") for one in kept_one["messages"] if one["type"] == "stream"] == ["1\n"]
        assert server.call("DELETE", f"tfgpu/kept/{kernel}").status_code == 204
    server.kill()
    server.start()
    assert server.call("GET", f"tfgpu/kept/{kernel}").json()["requests"] == []


@pytest.mark.nightly
def test_a_page_that_comes_back_and_is_loaded_anew_has_every_line(server: Server) -> None:
    """What went to the page that was left open goes to the one in its place, too, however soon it is loaded anew."""
    kernel = server.session("both.ipynb")["kernel"]["id"]
    session, request, _ = left(server, kernel, 400, cell="c1")
    server.start()
    with server.page(kernel, session) as back:
        back.until(request, lambda text: text != "")
    with server.page(kernel) as anew:
        assert gaps(taken_by(anew, server, kernel, request), 400) == []


def test_kept_output_is_bounded(server: Server) -> None:
    """A kernel that prints without end keeps the latest, in two files of 4 MiB, and the page is told."""
    kernel = server.session("much.ipynb")["kernel"]["id"]
    with server.page(kernel) as page:
        page.run("x = 1")
        request = page.send("import time; time.sleep(1)\nfor n in range(300): print(str(n) * 40000, flush=True)")
        time.sleep(0.3)
        server.kill()
    time.sleep(6)
    # a kernel may be made ready beside it
    run = next(one for one in (server.root.parent / "runtime/tfgpu").iterdir() if list((one / "io").glob("kept*")))
    kept = list((run / "io").glob("kept*"))
    assert kept
    assert sum(file.stat().st_size for file in kept) < 2 * 4 * 2**20 + 2**20
    server.start()
    with server.page(kernel, page.session) as page:
        text = page.until(request)
        assert "it was more than is kept (8 MiB)" in text.partition("\n")[0]
        assert text.endswith("299" * 40000 + "\n")


@pytest.mark.nightly
def test_an_output_too_large_to_be_kept_is_told(server: Server) -> None:
    """A cell ends with an animation of 5 MiB while no server is there: in its place the page has a line."""
    kernel = server.session("large.ipynb")["kernel"]["id"]
    with server.page(kernel) as page:
        page.run("from IPython.display import HTML, display; import time")
        request = page.send(
            "time.sleep(2); print('before', flush=True); display(HTML('x' * 5 * 2**20)); print('after')"
        )
        time.sleep(0.5)
        server.kill()
    time.sleep(3)
    server.start()
    with server.page(kernel, page.session) as page:
        notice, *rest = page.until(request).splitlines()
        assert "one message had more than 4 MiB" in notice
        assert rest == ["before", "after"]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_an_old_kernel_keeps_too(server: Server, kernels: Path) -> None:
    """Python 3.6 with the ipykernel of its time: no line is lost or doubled, as with today's."""
    install(kernels.parents[1], "old", "--image", made("frozen:py36"), "--gpus", "none", "--pool-size", "0")
    server.patience = 600
    kernel = server.session("old.ipynb", "old")["kernel"]["id"]
    with server.page(kernel) as page:
        assert page.run("import sys; print(sys.version_info[:2])") == "(3, 6)\n"
    session, request, before = left(server, kernel, 100)
    time.sleep(3)
    server.start()
    with server.page(kernel, session) as page:
        assert gaps(before + page.until(request), 100) == []
        assert page.run("print(n)") == "99\n"


@pytest.mark.nightly
def test_a_page_that_comes_late_has_the_lines_in_order(server: Server) -> None:
    """What is printed between the next server's coming and the page's only the server hears, and in its place."""
    kernel = server.session("late.ipynb")["kernel"]["id"]
    left(server, kernel, 2000, cell="c1")
    server.start()
    time.sleep(6)  # beyond what the kernel keeps when the server comes
    with server.page(kernel):
        time.sleep(1)  # while it keeps again, as the page has come
        [taken] = server.call("GET", f"tfgpu/kept/{kernel}").json()["requests"]
        text = "".join(message["content"].get("text", "") for message in taken["messages"])
        assert len(text.split()) > 300
        assert gaps(text, len(text.split())) == []


@pytest.mark.parametrize(
    ("kept_ones", "heard_ones"),
    [
        ("abc", "def"),
        ("abcd", "cdef"),
        ("abc ef", "cdef"),
        ("abcde", "de f"),
        ("ab d f", "bcdef"),
        ("", "abcdef"),
        ("abcdef", ""),
    ],
)
def test_what_was_kept_and_what_was_heard_join_in_the_order_of_sending(kept_ones: str, heard_ones: str) -> None:
    """However often the two overlap, as they do when a page comes long after the server, each is there in its place."""
    joined = kept.joined(list(kept_ones.replace(" ", "")), list(heard_ones.replace(" ", "")), str)
    assert "".join(joined) == "abcdef"


def test_a_kernel_makes_no_server_read_what_is_not_its(tmp_path: Path) -> None:
    """A link, a pipe or nonsense in the place of the kept file is read as nothing, without waiting."""
    run = RunFolder(tmp_path)
    run.io.mkdir()
    (tmp_path / "secret").write_bytes(b"x" * 100)
    for make in (
        lambda path: path.symlink_to(tmp_path / "secret"),
        os.mkfifo,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(os.urandom(10000)),
        lambda path: path.write_bytes(b"\xff\xff\xff\xff" * 100),
    ):
        path = run.io / "kept"
        make(path)
        assert kept.read(run).records == ()
        path.rmdir() if path.is_dir() else path.unlink()
