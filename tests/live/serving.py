"""A Jupyter server of a test's own, as a process, and calls to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TOKEN: Final = "test-token"


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def told(self) -> str:
        """Return the last of what the server logged."""
        return self.log.read_text()[-4000:]


@contextlib.contextmanager
def serving(
    root: Path, *options: str, prefix: Sequence[str] = (), log: Path | None = None
) -> Iterator[Server]:
    """Run a Jupyter server on a folder; ``prefix`` is the command that runs it as somebody else."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = log or root.parent / "server.log"
    command = [
        *prefix, sys.executable, "-m", "jupyter_server", f"--ServerApp.root_dir={root}", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--no-browser", "--allow-root",
        "--ServerApp.disable_check_xsrf=True", *options,
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=root, env=os.environ)
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + 90  # a busy machine
        while True:
            with contextlib.suppress(OSError):
                call(server, "GET", "/api/status")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{server.told()}")
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def call(server: Server, method: str, path: str, body: object = None) -> Any:
    """Call the server's API; return what it answers, an error's message included."""
    request = urllib.request.Request(  # noqa: S310 - the test's own server
        server.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    return json.loads(text) if text else None
