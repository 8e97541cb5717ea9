"""An engine's long answers: how far is read ahead of who takes them, and that the thread ends with them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tfgpu_kernel.engine.stream import AHEAD, pumped
from tfgpu_kernel.errors import TfgpuError

pytest_plugins = ["pytest_jupyter.jupyter_server"]  # runs asynchronous tests


class Source:
    """An engine's answer of a number of items; the number that was read of it is counted."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def items(self, _client: Any) -> Iterator[int]:
        for number in range(self.count):
            self.read += 1
            yield number

    def stream(self) -> AsyncGenerator[int, None]:
        client = contextlib.nullcontext(SimpleNamespace(timeout=1, hooks={"response": []}))
        return cast("AsyncGenerator[int, None]", pumped(lambda: client, self.items, "unix:///none"))  # type: ignore[arg-type, return-value]

    async def settled(self) -> int:
        """Wait until nothing more is read, and return how much was."""
        seen = -1
        while seen != self.read:
            seen = self.read
            await asyncio.sleep(0.1)
        return seen


async def ended() -> bool:
    """Whether the streams' threads end within ten seconds."""
    for _ in range(1000):
        if not any(thread.name == "tfgpu-stream" for thread in threading.enumerate()):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_slow_reader_is_waited_for() -> None:
    """No more than a few items are in memory, however slow their taker is; they come whole and in order."""
    source = Source(200)
    taken = []
    async for item in source.stream():
        taken.append(item)
        if item in {0, 50}:
            ahead = await source.settled() - len(taken)
            assert 1 <= ahead <= 20
    assert taken == list(range(200))
    assert await ended()


async def test_leaving_ends_a_thread_that_waits_for_its_reader() -> None:
    """One that has read as far ahead as it may sees that nobody takes any more."""
    source = Source(100_000)
    stream = source.stream()
    assert await anext(stream) == 0
    assert await source.settled() < 100
    await stream.aclose()
    assert await ended()
    assert source.read < 100


async def test_a_reader_that_is_cancelled_leaves_no_thread() -> None:
    """Whether it waits for an item or does something with one."""

    async def take(stream: AsyncGenerator[int, None], seconds: float) -> None:
        async with contextlib.aclosing(stream):
            async for _ in stream:
                await asyncio.sleep(seconds)

    for seconds in (0.0, 0.001, 60.0):
        taking = asyncio.create_task(take(Source(100_000).stream(), seconds))
        await asyncio.sleep(0.05)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert await ended()


async def test_an_error_after_many_items_is_told_in_its_turn() -> None:
    """What came before it is taken first."""
    source = Source(3 * AHEAD)
    whole = source.items

    def breaking(client: Any) -> Iterator[int]:
        yield from whole(client)
        raise OSError("the engine went away")

    source.items = breaking  # type: ignore[method-assign, assignment]
    taken = []
    with pytest.raises(TfgpuError):
        async for item in source.stream():
            taken.append(item)
    assert taken == list(range(3 * AHEAD))
    assert await ended()
