"""``/tfgpu/kernels/<kernel id>/proxy/<port>/…``: pages of programs in a kernel's container, HTTP and web sockets.

The container is not trusted with what is Jupyter's: of a request's cookies it gets only those that it set itself,
marked by name and path, and neither tokens nor the page's address. See docs/decisions on what the page itself may.
"""

from __future__ import annotations

import asyncio
import re
import socket
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import httputil, web
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.iostream import IOStream, StreamClosedError

from .. import ports
from ..errors import TfgpuError
from ..provisioner import TfgpuProvisioner

MARK: Final = "tfgpu-{port}-"
"""Begins the name of each cookie of a container's, as the browser has it."""
_HOP_BY_HOP: Final = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
"""RFC 9110, 7.6.1: what concerns one connection alone."""
_JUPYTERS: Final = {"cookie", "authorization", "x-xsrftoken", "referer", "origin", "host", "content-length"}
"""Never passed on as they came."""
_NOT_ITS_BUSINESS: Final = {
    "set-cookie", "location", "x-frame-options", "service-worker-allowed", "clear-site-data",
    "strict-transport-security", "access-control-allow-origin", "access-control-allow-credentials",
    "content-security-policy-report-only",
}  # fmt: skip
"""What a container may not say of an origin that it shares with Jupyter."""
_MOST_HEADERS: Final = 65536
_SAFE: Final = {"GET", "HEAD", "OPTIONS"}


def request_headers(headers: httputil.HTTPHeaders, port: int, prefix: str, *, upgrade: bool) -> httputil.HTTPHeaders:
    """Return a browser's headers as the container gets them."""
    dropped = _JUPYTERS | (_HOP_BY_HOP - {"upgrade"} if upgrade else _HOP_BY_HOP)
    passed = httputil.HTTPHeaders()
    for name, value in headers.get_all():
        if name.lower() not in dropped:
            passed.add(name, value)
    passed["Host"] = f"127.0.0.1:{port}"
    passed["Connection"] = "Upgrade" if upgrade else "close"
    passed["X-Forwarded-Prefix"] = prefix
    if "Origin" in headers:
        passed["Origin"] = f"http://127.0.0.1:{port}"
    mark = MARK.format(port=port)
    own = [
        cookie.strip().removeprefix(mark)
        for cookie in "; ".join(headers.get_list("Cookie")).split(";")
        if cookie.strip().startswith(mark)
    ]
    if own:
        passed["Cookie"] = "; ".join(own)
    return passed


def response_headers(headers: httputil.HTTPHeaders, port: int, prefix: str) -> list[tuple[str, str]]:
    """Return a container's headers as the browser gets them."""
    passed = [(name, value) for name, value in headers.get_all() if name.lower() not in _HOP_BY_HOP | _NOT_ITS_BUSINESS]
    for line in headers.get_list("Set-Cookie"):
        passed += _cookies(line, port, prefix)
    if "Location" in headers:
        passed.append(("Location", _location(headers["Location"], port, prefix)))
    return passed


def _cookies(line: str, port: int, prefix: str) -> list[tuple[str, str]]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(line)
        for name, morsel in jar.items():
            morsel.set(MARK.format(port=port) + name, morsel.value, morsel.coded_value)
            morsel["path"], morsel["domain"] = prefix, ""
    except CookieError:
        return []
    return [("Set-Cookie", morsel.OutputString()) for morsel in jar.values()]


def _location(target: str, port: int, prefix: str) -> str:
    parts = urlsplit(target)
    local = parts.netloc in {"", f"127.0.0.1:{port}", f"localhost:{port}"}
    if local and parts.path.startswith("/") and not target.startswith("//"):
        path = parts.path if parts.path.startswith(prefix) else prefix + parts.path.lstrip("/")
        return path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
    return target


class ProxyHandler(JupyterHandler):
    """Passes one request on, and its answer back, as they come."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    auth_resource = "kernels"

    async def prepare(self, **login: Any) -> None:
        """Serve only a user who may use kernels, and only pages of this server's own."""
        await super().prepare(**login)
        if self.current_user is None:
            raise web.HTTPError(403)
        if not await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "execute", self.auth_resource)
        ):
            raise web.HTTPError(403)
        if not self._of_this_site():
            raise web.HTTPError(403, "Pages of another site get nothing from a kernel's container.")

    def check_xsrf_cookie(self) -> None:
        """Leave it to :meth:`prepare`: programs such as TensorBoard know nothing of Jupyter's XSRF token."""

    def _of_this_site(self) -> bool:
        headers = self.request.headers
        if self.token_authenticated:
            return True  # no browser adds a token by itself
        origin = headers.get("Origin")
        if origin is not None:
            # A page that hides its origin ("null") is not one of ours.
            return urlsplit(origin).netloc.lower() == self.request.host.lower() or self._is_allowed(origin)
        if self.request.method not in _SAFE or self._upgrades():
            return False
        # A link or a bookmark may come from anywhere; a picture or a script on another site may not.
        site, mode = headers.get("Sec-Fetch-Site", "none"), headers.get("Sec-Fetch-Mode", "navigate")
        return site in {"same-origin", "none"} or mode == "navigate"

    def _is_allowed(self, origin: str) -> bool:
        return origin == self.allow_origin or bool(self.allow_origin_pat and re.match(self.allow_origin_pat, origin))

    def _upgrades(self) -> bool:
        return self.request.headers.get("Upgrade", "").lower() == "websocket"

    async def _serve(self, kernel_id: str, port: str, rest: str) -> None:
        number = int(port)
        if not 0 < number < 65536:
            raise web.HTTPError(404, "There is no such port.")
        prefix = f"{self.base_url}tfgpu/kernels/{kernel_id}/proxy/{number}/"
        try:
            connection = await self._connect(kernel_id, number)
        except TfgpuError as error:
            self.set_status(502)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(str(error))
            return
        stream = IOStream(connection, max_buffer_size=16 * 2**20)
        query = [pair for pair in parse_qsl(self.request.query, keep_blank_values=True) if pair[0] != "token"]
        # As it came where nothing was taken away: encodings differ between programs.
        text = self.request.query if "token=" not in self.request.query else urlencode(query)
        raw = self.request.path.partition(f"/proxy/{port}/")[2]
        target = f"/{raw}" + (f"?{text}" if text else "")
        try:
            if self._upgrades():
                await self._tunnel(stream, target, number, prefix)
            else:
                await _Exchange(self, stream, number, prefix).run(target)
        finally:
            stream.close()

    async def _connect(self, kernel_id: str, port: int) -> socket.socket:
        if kernel_id not in self.kernel_manager:
            raise web.HTTPError(404, "There is no such kernel.")
        provisioner = self.kernel_manager.get_kernel(kernel_id).provisioner
        if not isinstance(provisioner, TfgpuProvisioner) or provisioner.kernel is None:
            raise web.HTTPError(404, "This kernel runs in no container.")
        return await ports.connect(provisioner.kernel, provisioner.engine, port)

    async def _tunnel(self, stream: IOStream, target: str, port: int, prefix: str) -> None:
        """Pass a web socket on: the handshake is looked at, what follows is bytes."""
        head = f"GET {target} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n"
            for name, value in request_headers(self.request.headers, port, prefix, upgrade=True).get_all()
        )
        try:
            await stream.write(head.encode("latin-1") + b"\r\n")
            answer = await stream.read_until(b"\r\n\r\n", max_bytes=_MOST_HEADERS)
        except StreamClosedError as error:
            raise web.HTTPError(502, "The program in the container hung up.") from error
        first, _, lines = answer.decode("latin-1").partition("\r\n")
        try:
            start = httputil.parse_response_start_line(first)
            headers = httputil.HTTPHeaders.parse(lines.strip("\r\n"))
        except httputil.HTTPInputError as error:
            raise web.HTTPError(502, "The program in the container speaks no HTTP.") from error
        if start.code != 101:
            raise web.HTTPError(502, f"The program in the container refused the web socket ({start.code}).")
        browser = self.detach()
        kept = [*response_headers(headers, port, prefix), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
        text = "HTTP/1.1 101 Switching Protocols\r\n" + "".join(f"{name}: {value}\r\n" for name, value in kept)
        await browser.write(text.encode("latin-1") + b"\r\n")
        directions = [asyncio.ensure_future(_pump(*pair)) for pair in ((browser, stream), (stream, browser))]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stream.close()
            browser.close()
            await asyncio.gather(*directions, return_exceptions=True)

    get = head = post = put = patch = delete = options = _serve


class _Exchange(httputil.HTTPMessageDelegate):
    """One request and its answer; the answer goes out as it comes in, no faster than the browser takes it."""

    def __init__(self, handler: ProxyHandler, stream: IOStream, port: int, prefix: str) -> None:
        self._handler = handler
        self._port = port
        self._prefix = prefix
        self._connection = HTTP1Connection(
            stream, True, HTTP1ConnectionParameters(no_keep_alive=True, max_header_size=_MOST_HEADERS,
                                                    max_body_size=2**60)
        )  # fmt: skip
        self._answered = False

    async def run(self, target: str) -> None:
        request = self._handler.request
        headers = request_headers(request.headers, self._port, self._prefix, upgrade=False)
        if request.body or request.method in {"POST", "PUT", "PATCH"}:
            headers["Content-Length"] = str(len(request.body))
        try:
            start = httputil.RequestStartLine(request.method or "GET", target, "HTTP/1.1")
            await self._connection.write_headers(start, headers, request.body or None)
            self._connection.finish()
            await self._connection.read_response(self)
        except StreamClosedError:
            pass
        if not self._answered:
            raise web.HTTPError(502, "The program in the container hung up.")
        self._handler.finish()

    def headers_received(
        self, start_line: httputil.RequestStartLine | httputil.ResponseStartLine, headers: httputil.HTTPHeaders
    ) -> None:
        assert isinstance(start_line, httputil.ResponseStartLine)
        if start_line.code < 200:
            return
        self._answered = True
        self._handler.clear()
        self._handler.clear_header("Content-Type")
        # Of Jupyter's own only that no other site may frame the page; the page's comes beside it.
        self._handler.set_header("Content-Security-Policy", "frame-ancestors 'self'")
        self._handler.set_status(start_line.code, start_line.reason)
        for name, value in response_headers(headers, self._port, self._prefix):
            self._handler.add_header(name, value)

    async def data_received(self, chunk: bytes) -> None:
        self._handler.write(chunk)
        await self._handler.flush()


async def _pump(source: IOStream, sink: IOStream) -> None:
    try:
        while True:
            await sink.write(await source.read_bytes(65536, partial=True))
    except StreamClosedError:
        return


ROUTES: Final = ((r"/tfgpu/kernels/(?P<kernel_id>[\w-]+)/proxy/(?P<port>\d{1,5})/(?P<rest>.*)", ProxyHandler),)
