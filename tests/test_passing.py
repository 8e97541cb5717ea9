"""A container for one piece of work goes with the work, at whatever moment that ends, on an engine that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tfgpu_kernel.engine.passing import passing
from tfgpu_kernel.errors import EngineNotAnswering, EngineRefused, TfgpuError

pytest_plugins = ["pytest_jupyter.jupyter_server"]  # runs asynchronous tests


@dataclass
class SlowEngine:
    """An engine that takes a moment for each container.

    :param failure: what creating raises; after one that is none but a lack of patience the container is there.
    """

    failure: TfgpuError | None = None
    there: set[str] = field(default_factory=set)
    removing: Exception | None = None

    async def create(self, _config: Mapping[str, Any], name: str = "") -> str:
        await asyncio.shield(self._made(name))
        return name

    async def _made(self, name: str) -> None:
        await asyncio.sleep(0.05)
        if isinstance(self.failure, EngineRefused):
            raise self.failure
        self.there.add(name)
        if self.failure is not None:
            raise self.failure

    async def remove(self, container: str) -> None:
        await asyncio.sleep(0.01)
        if self.removing is not None:
            raise self.removing
        self.there.remove(container)

    def discard(self, container: str) -> None:
        self.there.remove(container)


async def work(engine: SlowEngine, seconds: float = 0.05, error: Exception | None = None) -> None:
    """Work in a container for a while, to a good end or a bad one."""
    async with passing(engine, {}) as made:  # type: ignore[arg-type]
        assert made in engine.there
        await asyncio.sleep(seconds)
        if error is not None:
            raise error


@pytest.mark.parametrize("after", [0.0, 0.01, 0.04, 0.06, 0.09])
async def test_cancelled(after: float) -> None:
    """While it is being made, and while it is worked in: it is gone when the work is over."""
    engine = SlowEngine()
    working = asyncio.create_task(work(engine))
    await asyncio.sleep(after)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await asyncio.sleep(0.06)
    assert not engine.there


@pytest.mark.parametrize("seconds", [0.02, 0.07])
async def test_out_of_time(seconds: float) -> None:
    """A limit that is over before the container is made, or after, leaves none."""
    engine = SlowEngine()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(work(engine), seconds)
    await asyncio.sleep(0.06)
    assert not engine.there


async def test_done_or_failed() -> None:
    """It goes with success, and with an error, which comes out as it is even where the container can't go."""
    engine = SlowEngine()
    await work(engine)
    assert not engine.there
    with pytest.raises(ValueError, match="my own"):
        await work(engine, error=ValueError("my own"))
    assert not engine.there
    engine.removing = EngineRefused("It is stuck.", "wait.")
    with pytest.raises(ValueError, match="my own"):
        await work(engine, error=ValueError("my own"))


async def test_an_engine_that_makes_it_and_gives_no_answer() -> None:
    """Nobody has its id; it goes by its name."""
    engine = SlowEngine(EngineNotAnswering("It gave no answer.", "wait."))
    with pytest.raises(EngineNotAnswering):
        await work(engine)
    assert not engine.there


async def test_a_refusal_is_told() -> None:
    """Then there is nothing to remove."""
    with pytest.raises(EngineRefused, match="No"):
        await work(SlowEngine(EngineRefused("No.", "ask another.")))
