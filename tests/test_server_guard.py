"""No call of the server extension serves a stranger: this walks whatever handlers the extension has registered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tornado.httpclient import HTTPResponse
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

pytest_plugins = ["pytest_jupyter.jupyter_server"]
PACKAGE: Final = "tfgpu_kernel"
SAMPLES: Final = ("8080", "0123abcd-1", "x", "", "x/y")
"""What stands for a part of a path; the first that fits."""
UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {PACKAGE: True}}}


def _rules(router: Any) -> Iterator[Any]:
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from _rules(rule.target)
        else:
            yield rule


def calls(app: Any) -> list[tuple[str, str, type[RequestHandler]]]:
    """Return method, path and handler of each call that the extension serves."""
    found = []
    for rule in _rules(app.web_app.default_router):
        if not (isinstance(rule.target, type) and rule.target.__module__.startswith(PACKAGE)):
            continue
        handler: type[RequestHandler] = rule.target
        pattern = rule.matcher.regex.pattern.removesuffix("$")
        path = re.sub(r"\((?:\?P<\w+>)?((?:[^()]|\([^()]*\))*)\)", lambda part: _sample(part[1]), pattern)
        assert rule.matcher.regex.match(path), f"no path was made for {pattern}"
        # OPTIONS is Jupyter's own: it says what a page may ask, and nothing else.
        for method in sorted({*handler.SUPPORTED_METHODS} - {"OPTIONS"}):
            if getattr(handler, method.lower()) is not RequestHandler._unimplemented_method:
                found.append((method, path, handler))
    return found


def _sample(pattern: str) -> str:
    return next(sample for sample in SAMPLES if re.fullmatch(pattern, sample))


async def ask(client: Any, method: str, path: str, handler: type[RequestHandler], **headers: str) -> HTTPResponse:
    """Make a call as a browser would; whatever the answer, return it."""
    if issubclass(handler, WebSocketHandler) and method == "GET":
        headers = {**UPGRADE, **headers}
    answer: HTTPResponse = await client.fetch(
        path,
        method=method,
        headers=headers,
        body="{}" if method in {"POST", "PUT", "PATCH"} else None,
        follow_redirects=False,
        raise_error=False,
    )
    return answer


def _unreached(monkeypatch: pytest.MonkeyPatch, handler: type[RequestHandler], method: str) -> list[str]:
    """Take note of calls that get as far as the handler's own code."""
    reached: list[str] = []

    async def note(self: RequestHandler, *_: object, **__: object) -> None:
        reached.append(self.request.path)

    # A web socket judges the origin in its own get; past that comes open.
    name = "open" if issubclass(handler, WebSocketHandler) and method == "GET" else method.lower()
    monkeypatch.setattr(handler, name, note)
    return reached


async def _cookie(client: Any, app: Any) -> str:
    """Log in as a browser does, with the token in the first address; return the cookie."""
    answer = await client.fetch(
        f"{app.base_url}?token={app.identity_provider.token}", follow_redirects=False, raise_error=False
    )
    return "; ".join(line.partition(";")[0] for line in answer.headers.get_list("Set-Cookie"))


async def test_all_calls_are_walked(jp_serverapp: Any) -> None:
    """The walk finds what is known to be there, so an empty walk can't pass for a safe extension."""
    found = {(method, path.removeprefix(jp_serverapp.base_url.rstrip("/"))) for method, path, _ in calls(jp_serverapp)}
    assert found >= {("GET", "/tfgpu/gpus"), ("GET", "/tfgpu/launches"), ("DELETE", "/tfgpu/launches/8080")}


async def test_nothing_is_served_without_a_token(jp_serverapp: Any, http_server_client: Any) -> None:
    """Whatever call is made without a token is refused, or sent to the login."""
    for method, path, handler in calls(jp_serverapp):
        answer = await ask(http_server_client, method, path, handler)
        login = answer.code == 302 and "/login" in answer.headers["Location"]
        assert answer.code in {401, 403} or login, f"{method} {path}: {answer.code}"


async def test_no_page_of_another_site_is_served(
    jp_serverapp: Any, http_server_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign page that rides on the user's cookie is refused before any of our code runs."""
    cookie = await _cookie(http_server_client, jp_serverapp)
    known = await http_server_client.fetch(f"{jp_serverapp.base_url}tfgpu/launches", headers={"Cookie": cookie})
    assert known.code == 200, "the cookie is the user's, so what is refused below is refused for its origin"
    for method, path, handler in calls(jp_serverapp):
        reached = _unreached(monkeypatch, handler, method)
        answer = await ask(http_server_client, method, path, handler, Cookie=cookie, Origin="https://evil.example")
        assert answer.code in {403, 404}, f"{method} {path}: {answer.code}"
        assert not reached, f"{method} {path} was served"
        monkeypatch.undo()
