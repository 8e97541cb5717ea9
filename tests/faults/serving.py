"""A real Jupyter server in a process of its own, that can be killed and started again on the same port."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import websocket

SECONDS = 60
TOKEN = "secret-of-the-test"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """``jupyter server`` on a root folder."""

    root: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    patience: float = SECONDS
    """Seconds that an answer may take."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the servers printed, one after another."""
        return self.root.parent / f"server-{self.port}.log"

    def start(self) -> float:
        """Start it and wait until it answers; return how many seconds that took."""
        command = [
            *(sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root"),
            *(f"--ServerApp.root_dir={self.root}", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            f"--IdentityProvider.token={TOKEN}",
            *self.options,
        ]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        while time.monotonic() - began < SECONDS:
            with contextlib.suppress(requests.ConnectionError):
                if self.get("api/status", check=False).ok:
                    return time.monotonic() - began
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.02)
        raise AssertionError("the server gives no answer:\n" + self.log.read_text()[-4000:])

    def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in good order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS)

    def end(self) -> None:
        """End it, and all kernels of this test's runtime folder."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        subprocess.run(
            [sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running"],
            check=True,
            capture_output=True,
            timeout=120,
        )

    def call(self, method: str, path: str, body: object = None, check: bool = True) -> requests.Response:
        """Make a REST call."""
        answer = requests.request(
            method,
            f"http://127.0.0.1:{self.port}/{path}",
            headers={"Authorization": f"token {TOKEN}"},
            json=body,
            timeout=self.patience,
        )
        assert not check or answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def get(self, path: str, check: bool = True) -> requests.Response:
        """Make a GET."""
        return self.call("GET", path, check=check)

    def session(self, notebook: str, kernel: str = "tfgpu") -> dict[str, Any]:
        """Start a notebook's session."""
        body = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": kernel}}
        model: dict[str, Any] = self.call("POST", "api/sessions", body).json()
        return model

    def sessions(self) -> dict[str, str]:
        """Return the kernel ids of the sessions by session id."""
        return {model["id"]: model["kernel"]["id"] for model in self.get("api/sessions").json()}

    @contextlib.contextmanager
    def page(self, kernel_id: str, session: str = "") -> Iterator[Page]:
        """Connect as a page does; the same session is the same page."""
        session = session or uuid.uuid4().hex
        connection = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/api/kernels/{kernel_id}/channels?session_id={session}",
            header={"Authorization": f"token {TOKEN}"},
            timeout=self.patience,
        )
        try:
            yield Page(connection, session, self.patience)
        finally:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                connection.close()


@dataclass
class Page:
    """A page's side of a kernel's channels."""

    connection: websocket.WebSocket
    session: str
    patience: float = SECONDS

    def send(self, code: str, cell: str = "") -> str:
        """Run a cell without waiting; return the request's id."""
        message = uuid.uuid4().hex
        header = {
            "msg_id": message,
            "msg_type": "execute_request",
            "username": "",
            "session": self.session,
            "date": "",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        body = {
            "header": header,
            "parent_header": {},
            "metadata": {"cellId": cell} if cell else {},
            "content": content,
            "channel": "shell",
            "buffers": [],
        }
        self.connection.send(json.dumps(body))
        return message

    def messages(self, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield what comes within a time."""
        end = time.monotonic() + (self.patience if seconds is None else seconds)
        while (rest := end - time.monotonic()) > 0:
            self.connection.settimeout(rest)
            try:
                yield json.loads(self.connection.recv())
            except websocket.WebSocketTimeoutException:
                return

    def until(self, request: str, done: Any = None) -> str:
        """Return what a request prints until it is answered and idle, or until ``done`` says so."""
        text, missing = "", {"execute_reply", "idle"}
        for message in self.messages():
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["channel"] == "iopub":
                text += content.get("text") or content.get("ename") or ""
            if done is not None and done(text):
                return text
            missing -= {message["msg_type"], content.get("execution_state", "")}
            if not missing:
                return text
        raise AssertionError(f"no end, but: {text[-1000:]}")

    def until_idle(self, request: str) -> None:
        """Wait until a request has ended that another page made, which gets the reply."""
        for message in self.messages():
            ended = message["content"].get("execution_state") == "idle"
            if ended and message["parent_header"].get("msg_id") == request:
                return
        raise AssertionError("it does not end")

    def rest(self, request: str) -> str:
        """Return what had still been sent when the server ended."""
        text = ""
        with contextlib.suppress(OSError, websocket.WebSocketException):
            for message in self.messages():
                if message["parent_header"].get("msg_id") == request and message["channel"] == "iopub":
                    text += message["content"].get("text") or ""
        return text

    def run(self, code: str) -> str:
        """Run a cell; return what it printed, and the name of the error it raised."""
        return self.until(self.send(code))


