"""Whether a kernel answers: the proof that container, sockets, key and ipykernel are all right."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, Final

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from .connection import Connection
from .engine.base import Exit
from .engine.events import outcome

_ASK_AGAIN_SECONDS: Final = 1.0
_RECONNECT_MS: Final = 5
"""How often zmq looks for the socket that the kernel is about to make; its default is 100 ms."""


class Ended(Exception):
    """The container ended before the kernel answered."""

    def __init__(self, end: Exit) -> None:
        super().__init__(str(end))
        self.end = end


async def first_answer(connection: Connection, end: Future[Exit], seconds: float) -> dict[str, Any]:
    """Wait until the kernel answers kernel_info, and return the answer's content.

    Heartbeats say nothing of a kernel that is still importing, so they are not asked.

    :raises Ended: when the container ends first.
    :raises TimeoutError: when ``seconds`` are over first.
    """
    asking = asyncio.ensure_future(ask(connection))
    ended = asyncio.ensure_future(outcome(end))
    try:
        done, _ = await asyncio.wait(
            {asking, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if asking in done:
            return asking.result()
        if ended in done:
            raise Ended(ended.result())
        raise TimeoutError
    finally:
        for task in (asking, ended):
            task.cancel()
        await asyncio.gather(asking, ended, return_exceptions=True)


async def ask(connection: Connection) -> dict[str, Any]:
    """Ask until the kernel answers, and return the answer's content."""
    info = connection.host_info()
    session = Session(key=info["key"], signature_scheme=info["signature_scheme"], username="tfgpu")
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.linger = 0
        socket.reconnect_ivl = _RECONNECT_MS
        socket.connect(f"ipc://{info['ip']}-{info['shell_port']}")
        while True:
            # A request that was sent before the kernel could answer is not lost, but asking twice is
            # harmless, and covers a socket file that a former kernel left.
            session.send(socket, "kernel_info_request")
            if await socket.poll(int(_ASK_AGAIN_SECONDS * 1000)):
                _, frames = session.feed_identities(await socket.recv_multipart())
                reply = session.deserialize(frames)
                if reply["msg_type"] == "kernel_info_reply":
                    content: dict[str, Any] = reply["content"]
                    return content
    finally:
        socket.close()
        context.term()

