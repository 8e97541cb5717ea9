"""Long answers of an engine, such as a pull, brought to the event loop item by item.

Each stream has a thread and a client of its own. Leaving the iteration shuts its socket down: the engine
cancels a pull or a build whose client goes away, and the thread ends.

The thread reads a few items ahead and then waits: an image that goes to a slow disk is not kept in memory meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

import docker
import requests
import urllib3
from docker.errors import DockerException
from docker.types import CancellableStream

from .translate import translated

Item = TypeVar("Item")

AHEAD: Final = 16
"""How many items may wait to be taken; of an image's archive each has a megabyte."""


async def pumped(
    new_client: Callable[[], docker.APIClient],
    begin: Callable[[docker.APIClient], Iterator[Item]],
    address: str,
    subject: str = "",
) -> AsyncIterator[Item]:
    """Yield the items of a blocking stream; its errors come out as ours."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    responses: list[requests.Response] = []
    left = threading.Event()
    room = threading.Semaphore(AHEAD)

    def tell(kind: str, value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(queue.put_nowait, (kind, value))

    def note(response: requests.Response, *_: Any, **__: Any) -> None:
        responses.append(response)
        if left.is_set():
            _shut(response)

    def run() -> None:
        try:
            with new_client() as client:
                client.timeout = None  # type: ignore[assignment] # the caller has the time limit, and can leave at any moment
                client.hooks["response"].append(note)
                for item in begin(client):
                    room.acquire()
                    if left.is_set():
                        return
                    tell("item", item)
            tell("end", None)
        except (
            DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,  # what is left of an answer whose socket was shut
            OSError,
            ValueError,
        ) as error:
            tell("error", error)

    thread = threading.Thread(target=run, name="tfgpu-stream", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = await queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise translated(value, address, subject) from value
            room.release()
            yield value
    finally:
        left.set()
        room.release()  # the thread may wait for it, and is to see that nobody takes any more
        for response in tuple(responses):
            _shut(response)


def _shut(response: requests.Response) -> None:
    """End a response that another thread is reading."""
    with contextlib.suppress(OSError, AttributeError):
        CancellableStream(iter(()), response).close()
