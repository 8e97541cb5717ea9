"""Driving a kernel as a client does, with a clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from .contenders import KERNELS

SECONDS: Final = 120
FIRST: Final = "import tensorflow as tf; answer = float(tf.reduce_sum(tf.ones((3, 3))))"
"""The first cell of a notebook; the answer is 9."""


@dataclass
class Driven:
    """A running kernel with a client."""

    manager: AsyncKernelManager
    client: AsyncKernelClient

    async def info(self) -> None:
        """Ask for kernel_info and wait for the answer."""
        await self._reply(self.client.kernel_info())

    async def value(self, code: str, expression: str) -> str:
        """Run a cell and return what an expression then is; asks only the shell, so no output can be missed."""
        content = await self._reply(self.client.execute(code, user_expressions={"asked": expression}))
        if content["status"] != "ok":
            raise RuntimeError(f"{content.get('ename')}: {content.get('evalue')}")
        return str(content["user_expressions"]["asked"]["data"]["text/plain"])

    async def first_result(self) -> None:
        """Import TensorFlow and compute."""
        told = await self.value(FIRST, "answer")
        assert told == "9.0", told

    async def output(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; return the contents of all that it put out."""
        heard: list[dict[str, Any]] = []
        await self.client.execute_interactive(
            code, output_hook=lambda message: heard.append(message["content"]), timeout=SECONDS
        )
        return heard

    async def _reply(self, asked: str) -> dict[str, Any]:
        while True:
            message = await self.client.get_shell_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = message["content"]
                return content


@asynccontextmanager
async def started(contender: str, cwd: Path) -> AsyncIterator[tuple[Driven, float]]:
    """Start a contender's kernel; give it, and the seconds until it answered kernel_info. It ends with the block."""
    manager = AsyncKernelManager(kernel_name=KERNELS[contender])
    began = time.perf_counter()
    await manager.start_kernel(cwd=str(cwd))
    client = manager.client()
    client.start_channels()
    driven = Driven(manager, client)
    try:
        await driven.info()
        yield driven, time.perf_counter() - began
    finally:
        client.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel()


async def timed(work: Awaitable[Any]) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began
