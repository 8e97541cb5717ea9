"""Driving a kernel as a client does: start it, run cells, read what they print."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

SECONDS = 60


@dataclass
class Driven:
    """A running kernel with a client."""

    manager: AsyncKernelManager
    client: AsyncKernelClient

    async def run(self, code: str) -> str:
        """Run a cell; return what it printed, and the name of the error it raised."""
        told: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            told.append(content.get("text") or content.get("ename") or "")

        await self.client.execute_interactive(code, output_hook=hear, timeout=SECONDS)
        return "".join(told)

    async def restart(self) -> None:
        """Restart the kernel on the channels that the client holds."""
        await self.manager.restart_kernel()
        await self.client.wait_for_ready(timeout=SECONDS)


@asynccontextmanager
async def kernel(cwd: Path, name: str = "tfgpu", **launch: Any) -> AsyncIterator[Driven]:
    """Start a kernel, and end it with the block."""
    manager = AsyncKernelManager(kernel_name=name)
    await manager.start_kernel(cwd=str(cwd), **launch)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=SECONDS)
        yield Driven(manager, client)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
