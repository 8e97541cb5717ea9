"""A real registry on loopback, with a proxy before it that makes the faults that registries make.

Needs Debian's ``docker-registry``. The proxy's present fault is an attribute, so a test sets it and pulls.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .recipes import RecipeUnavailable

Fault = Literal["", "slow", "cut", "401", "403", "404", "429", "login"]
LOGIN = ("ada", "open-sesame")
"""Who may enter while the proxy asks for a login."""
BODIES = {
    "401": '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
    "403": "Since Docker is a US company, we must comply with US export control regulations.",
    "404": '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
    "429": '{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}',
}
SLOW_BYTES = 256 * 1024
"""What goes through in a quarter of a second while the proxy is slow."""
CUT_BYTES = 5 * 2**20
"""After so much of a blob the proxy hangs up while it cuts."""


class Registry:
    """A registry at ``address``, through a proxy that obeys ``fault``."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.fault: Fault = ""
        self.manifests = 0
        """How many times a manifest was asked for."""
        self.pulls = 0
        """How many times a tag was looked up: once a pull, after which an engine may have the manifest itself."""
        self.blob_bytes = 0
        """How many bytes of blobs went through."""
        # All of the loop's work is done on its own thread: the caller's may have a loop that runs.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """End the proxy."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                first = await reader.readexactly(1)
                if first == b"\x16":  # an engine tries TLS first
                    return
                head = first + await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, writer)
            finally:
                writer.close()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        request = head.split(b"\r\n", 1)[0].decode()
        method, path, _ = request.split(" ")
        if "/manifests/" in path:
            self.manifests += 1
            self.pulls += "/manifests/sha256:" not in path
        pair = base64.b64encode(":".join(LOGIN).encode())
        if self.fault == "login" and b"authorization: basic " + pair.lower() not in head.lower():
            writer.write(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"here\"\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            return
        if self.fault in BODIES and "/manifests/" in path:
            body = BODIES[self.fault].encode()
            lines = [f"HTTP/1.1 {self.fault} Fault", f"Content-Length: {len(body)}", "Connection: close"]
            lines.append("Content-Type: " + ("application/json" if body.startswith(b"{") else "text/html"))
            writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body))
            await writer.drain()
            return
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._behind)
        to_behind.write(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        sent = 0
        try:
            while chunk := await behind.read(65536):
                if "/blobs/" in path:
                    self.blob_bytes += len(chunk)
                    sent += len(chunk)
                    if self.fault == "slow":
                        await asyncio.sleep(0.25 * len(chunk) / SLOW_BYTES)
                    if self.fault == "cut" and sent > CUT_BYTES:
                        return
                writer.write(chunk)
                await writer.drain()
        finally:
            to_behind.close()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Registry]:
    """Run a registry that keeps its images in ``folder``.

    :raises RecipeUnavailable: where docker-registry is not installed.
    """
    program = shutil.which("docker-registry")
    if program is None:
        raise RecipeUnavailable("needs Debian's docker-registry: apt-get install docker-registry")
    port = _free_port()
    command = [program, "serve", str(configured(folder, port))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/")
        proxy = Registry(port)
        try:
            yield proxy
        finally:
            proxy.close()
    finally:
        process.terminate()
        process.wait()


def configured(folder: Path, port: int) -> Path:
    """Write the settings of a registry that keeps its images in ``folder``; return their file."""
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
    )
    return config


def push(image: str, name: str, registry: Registry) -> None:
    """Put an image of the engine into the registry under a name, not through the proxy."""
    reference = f"127.0.0.1:{registry._behind}/{name}"
    _docker("tag", image, reference)
    _docker("push", "--quiet", reference)
    _docker("rmi", reference)


def random_image(tag: str, layers: int, megabytes: int, folder: Path) -> None:
    """Make an image of its own content, on no base: ``layers`` layers of so many random megabytes each."""
    lines = ["FROM scratch"]
    for number in range(layers):
        (folder / f"layer{number}").write_bytes(os.urandom(megabytes * 2**20))
        lines.append(f"COPY layer{number} /layer{number}")
    (folder / "Dockerfile").write_text("\n".join([*lines, 'CMD ["/layer0"]', ""]))
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", tag, str(folder)],
        check=True,
        capture_output=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )


def _docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310
            return
        time.sleep(0.05)
    raise RuntimeError(f"no registry answers at {url}")
