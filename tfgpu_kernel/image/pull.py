"""Pull an image, with a progress that only ever goes forward."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..engine.base import Engine, ImageEvent, ImageRecord
from ..errors import ImageNotFound, RegistryUnreachable
from ..progress import Report, Step

DOWNLOAD_SHARE: Final = 0.8
"""How much of a layer's work is its download; the rest is unpacking it."""
RATE_SECONDS: Final = 10.0
"""Over how long a time the rate is taken, so that it is neither jumpy nor stale."""
TELL_SECONDS: Final = 0.25
"""At most this often is progress told; an engine tells it many times a second for each layer."""


@dataclass
class _Layer:
    size: int | None = None
    downloaded: int = 0
    unpacked: int = 0
    state: str = ""

    @property
    def share(self) -> float:
        if self.state == "complete":
            return 1.0
        size = self.size or 0
        down = 1.0 if self.state == "downloaded" else self.downloaded / size if size else 0.0
        out = self.unpacked / size if size else 0.0
        return DOWNLOAD_SHARE * min(1.0, down) + (1 - DOWNLOAD_SHARE) * min(1.0, out)


class Progress:
    """A pull's events, layer by layer, summed up to one step.

    Sizes come to light one by one, as layers begin: a layer of unknown size counts as large as the mean
    of the known ones, and the portion that was told is never taken back.
    """

    def __init__(self, reference: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._reference = reference
        self._clock = clock
        self._layers: dict[str, _Layer] = {}
        self._portion = 0.0
        self._samples: deque[tuple[float, int]] = deque()

    def hear(self, event: ImageEvent) -> None:
        """Take in one event of the engine's."""
        if not event.layer or event.status.startswith("Pulling from"):
            return
        layer = self._layers.setdefault(event.layer, _Layer())
        if event.status == "Downloading":
            layer.size = event.total or layer.size
            layer.downloaded = event.done or layer.downloaded
        elif event.status in ("Download complete", "Verifying Checksum"):
            layer.state = layer.state or "downloaded"
            layer.downloaded = layer.size or layer.downloaded
        elif event.status == "Extracting":
            layer.state = "downloaded"
            layer.size = event.total or layer.size
            layer.downloaded = layer.size or 0
            layer.unpacked = event.done or layer.unpacked
        elif event.status in ("Pull complete", "Already exists"):
            layer.state = "complete"

    def step(self) -> Step:
        """Return what there is to tell now."""
        sizes = [layer.size for layer in self._layers.values() if layer.size]
        mean = sum(sizes) / len(sizes) if sizes else 1.0
        weights = [
            # A layer that was here already is no work, and its size is never told.
            (layer.size or (0.0 if layer.state == "complete" else mean), layer)
            for layer in self._layers.values()
        ]
        whole = sum(weight for weight, _ in weights)
        if whole:
            now = sum(weight * layer.share for weight, layer in weights) / whole
            self._portion = max(self._portion, min(now, 0.999))
        done = sum(layer.downloaded for layer in self._layers.values())
        total = sum(sizes)
        waiting = any(layer.state == "" for layer in self._layers.values())
        if not waiting and self._layers:
            unpacked = sum(
                (layer.size or 0) if layer.state == "complete" else layer.unpacked
                for layer in self._layers.values()
            )
            return Step(
                "unpacking", f"Unpacking {self._reference}", unpacked, total or None, portion=self._portion
            )
        rate, left = self._rate(done, total)
        text = f"Downloading {self._reference}" + (f", {rate / 1e6:.1f} MB/s" if rate else "")
        return Step("downloading", text, done, total or None, left, portion=self._portion)

    def finished(self) -> Step:
        """Return the last step: all is here."""
        total = sum(layer.size or 0 for layer in self._layers.values())
        return Step("unpacking", f"{self._reference} is here", total, total or None, 0.0, portion=1.0)

    def _rate(self, done: int, total: int) -> tuple[float, float | None]:
        """Return bytes a second and the seconds left, None where that can't be said yet."""
        now = self._clock()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        began, first = self._samples[0]
        rate = (done - first) / (now - began) if now > began else 0.0
        known = all(layer.size or layer.state for layer in self._layers.values())
        return rate, (total - done) / rate if rate > 0 and known else None


async def pull(reference: str, engine: Engine, seconds: float, report: Report) -> ImageRecord:
    """Pull an image within its time limit. Cancelling ends the download; what is complete stays.

    :raises RegistryUnreachable: when the registry gives no usable answer, or the time is over.
    :raises ImageNotFound: when the registry has no such image, or wants a login.
    """
    report(Step("downloading", f"Asking the registry for {reference}", portion=0.0))
    progress = Progress(reference)
    try:
        await asyncio.wait_for(_follow(reference, engine, progress, report), seconds)
    except asyncio.TimeoutError:
        raise RegistryUnreachable(
            f"Pulling {reference} took longer than pull_timeout ({seconds:g} s).",
            "try again, what has been downloaded is kept; or raise pull_timeout.",
        ) from None
    record = await engine.image(reference)
    if record is None:
        raise ImageNotFound(
            f"The registry sent {reference}, but the engine doesn't have it.", "try again: pull it anew."
        )
    report(progress.finished())
    return record


async def _follow(reference: str, engine: Engine, progress: Progress, report: Report) -> None:
    stream = engine.pull(reference)
    told = 0.0
    try:
        async for event in stream:
            progress.hear(event)
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                report(progress.step())
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
