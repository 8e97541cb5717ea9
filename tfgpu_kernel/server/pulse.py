"""Whether the engine answers. One that doesn't is no reason to think ill of kernels: they are reached without it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

EVERY_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 3.0
NOT_ANSWERING: Final = (
    "The Docker engine is not answering. Kernels go on; none can be started, interrupted or ended until it answers."
)


@dataclass(frozen=True)
class EngineState:
    """What is known of the engine; ``since`` in seconds since the epoch."""

    answering: bool
    since: float
    text: str = ""


class Pulse:
    """Asks the engine for a sign of life every few seconds, without a thread."""

    def __init__(
        self, address: str, log: logging.Logger | logging.LoggerAdapter[Any], changed: Callable[[], None]
    ) -> None:
        self._address = address
        self._log = log
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self.state = EngineState(True, time.time())

    def start(self) -> None:
        """Begin to ask; only an engine with a socket on this machine is asked."""
        if self._address.startswith("unix://"):
            self._task = asyncio.get_running_loop().create_task(self._ask())

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while True:
            answering = await answers(self._address, PATIENCE_SECONDS)
            if answering != self.state.answering:
                self.state = EngineState(answering, time.time(), "" if answering else NOT_ANSWERING)
                if answering:
                    self._log.info("The Docker engine answers again")
                else:
                    self._log.warning(NOT_ANSWERING)
                self._changed()
            await asyncio.sleep(EVERY_SECONDS)


async def answers(address: str, seconds: float) -> bool:
    """Whether the engine at a unix socket answers in time."""
    writer = None
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(address.removeprefix("unix://")), seconds)
        writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b"200" in await asyncio.wait_for(reader.readline(), seconds)
    except (OSError, TimeoutError, asyncio.TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
