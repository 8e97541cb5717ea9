"""A jupyter_server as a page sees it: sessions over REST, cells over the websocket."""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from jupyter_client.session import Session
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.live.serving import TOKEN, Server

from .driving import FIRST

_SECONDS: Final = 180.0
_HEADERS: Final = {"Authorization": f"token {TOKEN}"}
_SESSION: Final = Session(key=b"")


class Page:
    """One client of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = AsyncHTTPClient(force_instance=True, max_clients=200)

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the server's API.

        :raises tornado.httpclient.HTTPClientError: where it says no.
        """
        request = HTTPRequest(
            self._server.url + path,
            method,
            _HEADERS | {"Content-Type": "application/json"},
            None if body is None else json.dumps(body),
            request_timeout=_SECONDS,
            allow_nonstandard_methods=True,
        )
        answer = await self._http.fetch(request)
        return json.loads(answer.body) if answer.body else None

    async def open(self, kernel: str) -> dict[str, Any]:
        """Start a session with a kernel of this name, and return it."""
        name = f"{uuid.uuid4().hex}.ipynb"
        body = {"path": name, "name": name, "type": "notebook", "kernel": {"name": kernel}}
        session: dict[str, Any] = await self.call("POST", "/api/sessions", body)
        return session

    async def close(self, session: dict[str, Any]) -> None:
        """End a session and its kernel."""
        await self.call("DELETE", f"/api/sessions/{session['id']}")

    async def first_result(self, session: dict[str, Any]) -> None:
        """Open the kernel's websocket, run the first cell, and wait until its output is there."""
        url = f"{self._server.url.replace('http', 'ws', 1)}/api/kernels/{session['kernel']['id']}/channels"
        socket = await websocket_connect(HTTPRequest(url, headers=_HEADERS), max_message_size=2**27)
        try:
            await self._run(socket)
        finally:
            socket.close()

    async def _run(self, socket: WebSocketClientConnection) -> None:
        content = {"code": f"{FIRST}; print(answer)", "silent": False, "store_history": True, "allow_stdin": False}
        message = _SESSION.msg("execute_request", content) | {"channel": "shell", "buffers": []}
        message["header"]["date"] = message["header"]["date"].isoformat()
        await socket.write_message(json.dumps(message))
        while True:
            text = await socket.read_message()
            if text is None:
                raise RuntimeError("the server closed the websocket")
            heard = json.loads(text)
            if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if heard["msg_type"] == "error":
                raise RuntimeError(f"{heard['content']['ename']}: {heard['content']['evalue']}")
            if heard["msg_type"] == "stream" and "9.0" in heard["content"]["text"]:
                return
