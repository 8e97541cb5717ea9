"""Deaths of containers, pushed: one subscription to the engine's events serves a whole process.

The subscription lives in a thread while anything is watched. When it breaks, it is made again, and what
ended meanwhile is found by asking once for each watched container. While the engine doesn't answer,
nothing is reported: not knowing is not death.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from typing import Any, Final

import docker
import requests
from docker.errors import DockerException, NotFound
from docker.types import CancellableStream

from .base import Exit

RETRY_SECONDS: Final = 1.0
GONE: Final = Exit(code=137, error="the container was removed from outside")
"""What is known of a container that vanished: somebody removed it by force."""


class Watcher:
    """Futures of containers' ends, fed by the engine's event stream."""

    def __init__(
        self,
        new_client: Callable[[], docker.APIClient],
        exit_status: Callable[[docker.APIClient, str], Exit | None],
    ) -> None:
        self._new_client = new_client
        self._exit_status = exit_status
        self._lock = threading.Lock()
        self._watched: dict[str, Future[Exit]] = {}
        self._thread: threading.Thread | None = None
        self._stream: CancellableStream[Any] | None = None
        self._generation = 0
        self._following = False
        self._idle = threading.Event()

    def watch(self, container: str) -> Future[Exit]:
        """Return the future of a container's end; the same one for the same container."""
        with self._lock:
            future = self._watched.get(container)
            if future is None:
                future = self._watched[container] = Future()
                if self._thread is None:
                    self._idle.clear()
                    self._thread = threading.Thread(target=self._run, name="tfgpu-events", daemon=True)
                    self._thread.start()
            return future

    def unwatch(self, container: str) -> None:
        """Forget a container; its future is cancelled if it is still open."""
        with self._lock:
            future = self._watched.pop(container, None)
            if not self._watched:
                self._end()
        if future is not None:
            future.cancel()

    @property
    def unchanged_since(self) -> int:
        """A number that stays the same while the engine is seen to be what it was; 0 while nobody looks."""
        return self._generation if self._following else 0

    def close(self) -> None:
        """Forget all containers and end the thread."""
        with self._lock:
            futures = list(self._watched.values())
            self._watched.clear()
            self._end()
        for future in futures:
            future.cancel()

    def _end(self) -> None:
        """Let the thread end; called with the lock held."""
        self._thread = None
        self._following = False
        self._idle.set()
        if self._stream is not None:
            with contextlib.suppress(OSError, AttributeError):
                self._stream.close()

    def _run(self) -> None:
        me = threading.current_thread()
        broken = False
        while self._thread is me:
            with contextlib.suppress(DockerException, requests.RequestException, OSError, ValueError):
                with self._new_client() as client:
                    self._follow(client, me, broken)
            with self._lock:
                if self._thread is not me:
                    return  # another may be following by now
                self._following = False
            broken = True
            self._idle.wait(RETRY_SECONDS)

    def _follow(self, client: docker.APIClient, me: threading.Thread, broken: bool) -> None:
        """Subscribe, then look at what ended before the subscription, then pass deaths on.

        :param broken: a former subscription broke, so what ended meanwhile did so while the engine was away.
        """
        # podman says died and remove, and refuses a filter for what the daemon tells.
        stream = client.events(
            decode=True, filters={"event": ["die", "died", "destroy", "remove", "reload"]}
        )
        with self._lock:
            if self._thread is not me:
                stream.close()
                return
            self._stream = stream
            self._generation += 1
            self._following = True
            watched = list(self._watched)
        for container in watched:
            self._ask(client, container, unseen=broken)
        for event in stream:
            if event.get("Type") == "daemon":
                self._generation += 1
                continue
            container = event.get("id") or event.get("Actor", {}).get("ID", "")
            if container in self._watched:
                self._ask(client, container)

    def _ask(self, client: docker.APIClient, container: str, *, unseen: bool = False) -> None:
        """Find out whether a watched container has ended, and how."""
        try:
            status = self._exit_status(client, container)
        except NotFound:
            status = GONE
        if status is None:
            return
        with self._lock:
            future = self._watched.get(container)
        if future is not None:
            with contextlib.suppress(InvalidStateError):  # it was told before, or is unwatched at this moment
                future.set_result(replace(status, unseen=unseen))


async def outcome(watched: Future[Exit]) -> Exit:
    """Await a watch's future from any event loop; leaving early leaves the future open for others."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def arrived(_: Future[Exit]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    watched.add_done_callback(arrived)
    await waiter
    return watched.result()
