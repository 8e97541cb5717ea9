"""The subscription to the engine's events, as its threads follow one another."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from tfgpu_kernel.engine.base import Exit
from tfgpu_kernel.engine.events import Watcher


class Engine:
    """An engine whose event streams end when the test says so, closed or not."""

    def __init__(self) -> None:
        self.streams: queue.Queue[threading.Event] = queue.Queue()

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Stand in for docker-py's client."""
        yield self

    def events(self, **_: object) -> Any:
        """Return a stream that holds no event."""
        over = threading.Event()
        self.streams.put(over)

        class Stream:
            def __iter__(self) -> Iterator[dict[str, Any]]:
                over.wait()
                return iter(())

            def close(self) -> None:
                pass

        return Stream()


def test_a_thread_that_ends_late_takes_nothing_from_the_next() -> None:
    """The engine is followed as long as one thread does, also while a former one still finds out that it's over."""
    engine = Engine()
    watcher = Watcher(engine.client, lambda _, __: None)
    watcher.watch("a")
    first = engine.streams.get(timeout=5)
    former = watcher._thread
    watcher.unwatch("a")
    assert watcher.unchanged_since == 0
    watcher.watch("b")
    second = engine.streams.get(timeout=5)
    deadline = time.monotonic() + 5
    while not watcher.unchanged_since and time.monotonic() < deadline:
        time.sleep(0.01)
    first.set()
    assert former is not None
    former.join(5)
    assert not former.is_alive()
    assert watcher.unchanged_since
    watcher.close()
    second.set()


def test_an_end_that_comes_as_it_is_unwatched_ends_no_thread() -> None:
    """The one that tells of ends goes on when a watch is given up between its looking and its telling."""

    class GivenUp(Future[Exit]):
        def set_result(self, result: Exit) -> None:
            self.cancel()
            super().set_result(result)

    watcher = Watcher(Engine().client, lambda _, __: Exit(0))
    given_up, told = GivenUp(), Future[Exit]()
    watcher._watched |= {"a": given_up, "b": told}
    client: Any = None
    for container in ("a", "b", "b"):
        watcher._ask(client, container)
    assert given_up.cancelled()
    assert told.result() == Exit(0)
