"""A pull's progress only goes forward, and its limits hold."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgpu_kernel.engine.base import ImageEvent
from tfgpu_kernel.errors import RegistryUnreachable
from tfgpu_kernel.image.pull import Progress, pull
from tfgpu_kernel.image.shared import once
from tfgpu_kernel.progress import Report, Step

MB = 10**6


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test that is a coroutine in a loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the locks of these tests apart from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def layer_events(name: str, size: int, steps: int) -> list[ImageEvent]:
    """Return what an engine tells of one layer, from the announcement to the end."""
    parts = [size * number // steps for number in range(1, steps + 1)]
    return [
        ImageEvent("Pulling fs layer", name),
        ImageEvent("Waiting", name),
        *(ImageEvent("Downloading", name, done, size) for done in parts),
        ImageEvent("Verifying Checksum", name),
        ImageEvent("Download complete", name),
        *(ImageEvent("Extracting", name, done, size) for done in parts),
        ImageEvent("Pull complete", name),
    ]


@given(
    sizes=st.lists(st.integers(1, 10**10), min_size=1, max_size=6),
    steps=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_fractions_never_go_back_and_end_at_one(sizes: list[int], steps: int, order: Any) -> None:
    """However the layers' events interleave, and however late a size comes to light."""
    streams = [layer_events(f"layer{number}", size, steps) for number, size in enumerate(sizes)]
    progress = Progress("image", clock=iter(range(10**6)).__next__)
    told = []
    while any(streams):
        stream = order.choice([stream for stream in streams if stream])
        progress.hear(stream.pop(0))
        told.append(progress.step().fraction)
    told.append(progress.finished().fraction)
    assert all(fraction is not None for fraction in told)
    assert told == sorted(told, key=lambda fraction: fraction or 0.0)
    assert told[-1] == 1.0
    assert all(fraction < 1.0 for fraction in told[:-1] if fraction is not None)


def test_bytes_rate_and_time_left() -> None:
    """Bytes and total are those of all layers; with every size known the time left can be told."""
    clock = iter([0.0, 10.0])
    progress = Progress("image", clock=clock.__next__)
    progress.hear(ImageEvent("Pulling from library/image", "latest"))
    for name in ("a", "b"):
        progress.hear(ImageEvent("Downloading", name, 0, 50 * MB))
    assert progress.step().done == 0
    progress.hear(ImageEvent("Downloading", "a", 40 * MB, 50 * MB))
    step = progress.step()
    assert (step.phase, step.done, step.total) == ("downloading", 40 * MB, 100 * MB)
    assert "4.0 MB/s" in step.text
    assert step.seconds_left == pytest.approx(15.0)


def test_layers_that_are_here_are_no_work() -> None:
    """A layer that exists already counts as nothing to do."""
    progress = Progress("image")
    progress.hear(ImageEvent("Already exists", "a"))
    progress.hear(ImageEvent("Downloading", "b", 0, MB))
    assert progress.step().fraction == 0.0


class SlowEngine:
    """An engine whose registry sends nothing for ever."""

    left = False

    async def pull(self, reference: str) -> AsyncIterator[ImageEvent]:
        """Announce a layer, and then hang."""
        try:
            yield ImageEvent("Pulling fs layer", "a")
            await asyncio.sleep(3600)
        finally:
            self.left = True


@in_a_loop
async def test_pull_ends_at_its_time_limit() -> None:
    """A pull is given up when its own limit is over, and the engine is told to stop."""
    engine = SlowEngine()
    with pytest.raises(RegistryUnreachable, match="pull_timeout"):
        await pull("image", engine, 0.2, lambda step: None)  # type: ignore[arg-type]
    assert engine.left


@in_a_loop
async def test_work_is_done_once_for_all_who_want_it() -> None:
    """Two who want the same share one piece of work, and both hear of it."""
    runs = 0

    async def work(report: Report) -> str:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.05)
        report(Step("building", "half"))
        await asyncio.sleep(0.05)
        return "done"

    heard: list[list[str]] = [[], []]
    results = await asyncio.gather(
        *(once("test-shared", work, lambda step, mine=mine: mine.append(step.text)) for mine in heard)  # type: ignore[misc]
    )
    assert (runs, results, heard) == (1, ["done", "done"], [["half"], ["half"]])


@in_a_loop
async def test_work_goes_on_until_nobody_waits() -> None:
    """One who gives up doesn't end it for the others; the last one who gives up does."""
    ended: list[str] = []

    async def work(report: Report) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("yes")

    first, second = (asyncio.create_task(once("test-last", work, lambda step: None)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not ended
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert ended == ["yes"]


@in_a_loop
async def test_failure_reaches_all_and_the_next_try_begins_anew() -> None:
    """All who wait get the error, and it is not kept."""
    tries = 0

    async def work(report: Report) -> int:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.01)
        if tries == 1:
            raise RegistryUnreachable("no", "wait.")
        return tries

    results = await asyncio.gather(
        *(once("test-failure", work, lambda step: None) for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [RegistryUnreachable, RegistryUnreachable]
    assert await once("test-failure", work, lambda step: None) == 2
