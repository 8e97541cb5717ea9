"""One kernel for one notebook: whoever asks for a session that is being started gets that one.

jupyter_server knows a session only once its kernel runs, which takes minutes where an image is pulled. A
page that is reloaded meanwhile would ask again, and get a second kernel (a second GPU) for the same notebook.

JupyterLab asks for a session under a made-up path in the notebook's folder, and gives it the notebook's own path
once the kernel runs. So the name beside the path tells which notebook it is, and a session that still bears the
made-up path is one whose page went away.

A page may ask twice, too: who chooses a kernel again while it starts gives the first request up. JupyterLab deletes
the session that it gets for that one, and would end the kernel that it got for the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Any, Final

from jupyter_server import CallContext
from jupyter_server.services.sessions.sessionmanager import SessionManager
from tornado import web

Model = dict[str, Any]
Key = tuple[str, str, str | None]
"""Folder, name of the notebook, name of the kernel."""
_GIVES_UP_SECONDS: Final = 10.0
"""Within this time a page gives back what it got for a request that it has given up; it does so at once."""


class Joined:
    """Takes the place of a session manager's ``create_session``, and ``delete`` that of its ``delete_session``.

    :param is_ours: whether a kernel of this name is one that starts in a container; others are left alone.
    """

    def __init__(self, sessions: SessionManager, is_ours: Callable[[str | None], bool]) -> None:
        self._sessions = sessions
        self._create: Callable[..., Awaitable[Model]] = sessions.create_session
        self._delete: Callable[[str], Awaitable[None]] = sessions.delete_session
        self._is_ours = is_ours
        self._under_way: dict[Key, asyncio.Task[Model]] = {}
        self._made: dict[Key, Model] = {}
        self._handed_out: dict[str, list[float]] = {}
        """When each session was handed out."""

    async def __call__(self, path: str | None = None, **asked: Any) -> Model:
        """Create a session, or return the one that is being created, or waits, for this notebook."""
        name, kernel_name = asked.get("name"), asked.get("kernel_name")
        if (
            not path
            or not name
            or asked.get("type") != "notebook"
            or asked.get("kernel_id") in self._sessions.kernel_manager
            or not self._is_ours(kernel_name)
        ):
            return await self._create(path=path, **asked)
        key = (str(PurePosixPath(path).parent), name, kernel_name)
        model = await self._waiting(key)
        if model is None:
            task = self._under_way.get(key)
            if task is None:
                task = self._under_way[key] = asyncio.ensure_future(self._start(key, path, asked))
            # One that goes away takes nobody's launch with it; only Cancel ends a launch.
            model = await asyncio.shield(task)
        if model["path"] != path:
            # JupyterLab shuts a session down that doesn't have the path that it made up.
            await self._sessions.update_session(model["id"], path=path)  # type: ignore[no-untyped-call]
            model = self._made[key] = {**model, "path": path}
        self._hand_out(model["id"])
        return model

    async def delete(self, session_id: str) -> None:
        """End a session, unless it was handed out to another request just now: that one needs it."""
        others = self._lately(self._handed_out.pop(session_id, []))[1:]
        if others:
            self._handed_out[session_id] = others
        else:
            await self._delete(session_id)

    def _hand_out(self, session_id: str) -> None:
        lately = {known: self._lately(times) for known, times in self._handed_out.items()}
        self._handed_out = {known: times for known, times in lately.items() if times}
        if not _gone():
            self._handed_out.setdefault(session_id, []).append(time.monotonic())

    def _lately(self, times: list[float]) -> list[float]:
        return [one for one in times if time.monotonic() - one < _GIVES_UP_SECONDS]

    async def _start(self, key: Key, path: str, asked: dict[str, Any]) -> Model:
        try:
            made = self._made[key] = await self._create(path=path, **asked)
        finally:
            del self._under_way[key]
        return made

    async def _waiting(self, key: Key) -> Model | None:
        """Return a session that was made for this notebook and that no page has taken."""
        made = self._made.pop(key, None)
        if made is None or made["path"] == made["name"] or made["path"].endswith(f"/{made['name']}"):
            return None
        try:
            now: Model = await self._sessions.get_session(session_id=made["id"])  # type: ignore[no-untyped-call]
        except web.HTTPError:
            return None
        return now if now["path"] == made["path"] else None


def _gone() -> bool:
    """Whether the page that asks has closed its connection: it gives nothing back."""
    handler: web.RequestHandler | None = CallContext.get(CallContext.JUPYTER_HANDLER)
    stream = getattr(handler.request.connection, "stream", None) if handler is not None else None
    return stream is not None and stream.closed()
