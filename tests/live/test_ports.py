"""Ports of a container through the server, from a container with no network: what passes, and what must not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import requests

from tests.browser.serving import Server, running

PORT: Final = 8765
PROGRAM: Final = """
import http.server, json, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n\\r\\n")
            while True:
                data = self.rfile.readline()
                self.wfile.write(data.upper())
                if not data:
                    return
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", "/there?a=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(3):
                self.wfile.write(b"5\\r\\nhello\\r\\n"); self.wfile.flush(); time.sleep(0.5)
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        self.answer({"path": self.path, "headers": dict(self.headers)})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"body": len(body)})
    def answer(self, what):
        text = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Set-Cookie", "mine=1; Path=/")
        self.send_header("Set-Cookie", "_xsrf=evil; Path=/; Domain=127.0.0.1")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Clear-Site-Data", "*")
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", %d), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def served(slim_image: str) -> Iterator[tuple[Server, str, str]]:
    """Run a server with one kernel without network, in whose container a program listens; give the proxy's address."""
    folder = Path(tempfile.mkdtemp(prefix="tfp-"))
    try:
        with running(folder) as server:
            server.kernelspec("slim", "Slim", image=slim_image, gpu_required=False, network="none")
            started = server.ask("POST", "api/kernels", json={"name": "slim"})
            assert started.ok, server.log.read_text()[-3000:]
            kernel = started.json()["id"]
            [container] = server.containers()
            subprocess.run(["docker", "exec", "-d", container, "python3", "-c", PROGRAM % PORT], check=True)
            yield server, container, f"tfgpu/kernels/{kernel}/proxy/{PORT}/"
            server.end_kernels()
            assert not server.containers()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def slim_image() -> str:
    from tests.images import recipes

    return recipes.ensure("slim")


def eventually(server: Server, path: str) -> requests.Response:
    """Ask until the program listens."""
    deadline = time.monotonic() + 20
    while (answer := server.ask("GET", path)).status_code == 502 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def test_a_page_passes_without_what_is_jupyters(served: tuple[Server, str, str]) -> None:
    """Path and query arrive; Jupyter's cookies, token and address don't; the page's cookies come back marked."""
    server, _, proxy = served
    eventually(server, proxy)
    session = requests.Session()
    session.get(f"{server.url}lab?token={server.token}")  # now it has Jupyter's cookies, as a browser has
    assert session.cookies
    page = session.get(f"{server.url}{proxy}a%20b/c?x=1&y=", headers={"Referer": f"{server.url}lab?token=t"})
    seen = page.json()
    assert seen["path"] == "/a%20b/c?x=1&y="
    headers = {name.lower(): text for name, text in seen["headers"].items()}
    assert not headers.keys() & {"cookie", "authorization", "referer", "x-xsrftoken"}
    assert headers["host"] == f"127.0.0.1:{PORT}"
    named = {cookie.name: cookie.path for cookie in session.cookies if cookie.value in {"1", "evil"}}
    assert named == {f"tfgpu-{PORT}-mine": f"/base/{proxy}", f"tfgpu-{PORT}-_xsrf": f"/base/{proxy}"}
    assert not page.headers.keys() & {"Access-Control-Allow-Origin", "Clear-Site-Data"}
    again = session.get(f"{server.url}{proxy}").json()["headers"]
    assert sorted(again["Cookie"].split("; ")) == ["_xsrf=evil", "mine=1"]
    with_token = requests.get(f"{server.url}{proxy}?token={server.token}&x=2", timeout=20).json()
    assert with_token["path"] == "/?x=2"


def test_answers_stream_and_bodies_pass(served: tuple[Server, str, str]) -> None:
    """An answer that takes its time is shown as it comes; a body of many megabytes arrives; redirects stay inside."""
    server, _, proxy = served
    eventually(server, proxy)
    began = time.monotonic()
    times = [
        time.monotonic() - began for _ in server.ask("GET", f"{proxy}stream", stream=True).iter_content(chunk_size=None)
    ]
    assert times[-1] - times[0] > 0.5
    assert server.ask("POST", f"{proxy}echo", data=b"x" * 30_000_000).json() == {"body": 30_000_000}
    moved = server.ask("GET", f"{proxy}away", allow_redirects=False)
    assert (moved.status_code, moved.headers["Location"]) == (302, f"/base/{proxy}there?a=1")


def test_a_web_socket_passes_both_ways(served: tuple[Server, str, str]) -> None:
    """After the handshake bytes go both ways as they are."""
    server, _, proxy = served
    eventually(server, proxy)
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(
            f"GET /base/{proxy}ws HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Authorization: token {server.token}\r\nSec-WebSocket-Key: x\r\n\r\n".encode()
        )
        stream = connection.makefile("rwb")
        assert b"101" in stream.readline()
        while stream.readline() != b"\r\n":
            pass
        for word in (b"hello\n", b"again\n"):
            stream.write(word)
            stream.flush()
            assert stream.readline() == word.upper()


def test_only_this_servers_own_pages_are_served(served: tuple[Server, str, str]) -> None:
    """With the cookie alone: no foreign origin, no picture on another site, no POST that hides where it is from."""
    server, _, proxy = served
    eventually(server, proxy)
    session = requests.Session()
    session.get(f"{server.url}lab?token={server.token}")
    own = f"http://{urlsplit(server.url).netloc}"
    url = f"{server.url}{proxy}"
    assert session.post(url, headers={"Origin": own}).status_code == 200
    assert session.get(url, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200
    for method, headers in (
        ("POST", {}),
        ("POST", {"Origin": "https://evil.example"}),
        ("GET", {"Origin": "null"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
        ("GET", {"Upgrade": "websocket", "Connection": "Upgrade"}),
    ):
        assert session.request(method, url, headers=headers).status_code == 403, (method, headers)
    assert requests.get(url, timeout=20, allow_redirects=False).status_code in {302, 403}


def test_nothing_there_is_told(served: tuple[Server, str, str]) -> None:
    """A port without a program says what to do; a kernel that isn't there is a 404."""
    server, _, proxy = served
    answer = server.ask("GET", proxy.replace(str(PORT), "9"))
    assert answer.status_code == 502
    assert "Nothing listens on port 9" in answer.text
    assert server.ask("GET", "tfgpu/kernels/nobody/proxy/80/").status_code == 404


def test_a_socket_that_leads_elsewhere_is_not_followed(served: tuple[Server, str, str]) -> None:
    """A kernel that puts a link to another socket in place of its own gets nothing from that socket."""
    server, _, proxy = served
    eventually(server, proxy)
    elsewhere = server.folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(elsewhere))
        other.listen()
        other.settimeout(1)
        [run] = server.run_folders()
        ours = run / "io/ports"
        ours.unlink()
        ours.symlink_to(elsewhere)
        assert server.ask("GET", proxy).status_code == 200  # a new forwarder has replaced the link
        assert not ours.is_symlink()
        with pytest.raises(TimeoutError):
            other.accept()
    os.unlink(elsewhere)
    assert json.loads(server.ask("GET", proxy).text)
