"""nbclient's runner of cells, with a Ctrl-C that ends the run as a whole."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
from typing import Any

from nbclient import NotebookClient


class Runner(NotebookClient):
    """Runs a notebook's cells in a kernel of its own.

    nbclient answers SIGINT and SIGTERM by ending the kernel beside the run, which goes on: it takes that for a death,
    and during a start doesn't notice. Here they cancel the task that runs, so that start, cell and kernel all end.
    """

    interrupted = False
    """Whether the run was cancelled so; who runs it then raises KeyboardInterrupt for whatever came of that."""

    async def async_start_new_kernel(self, **kwargs: Any) -> None:
        """Start the kernel; nbclient calls it right after it has set its own handlers."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def interrupt() -> None:
            if task is not None and not self.interrupted:  # a second one must not cancel the clearing up
                self.interrupted = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(number, interrupt)
        await super().async_start_new_kernel(**kwargs)

    async def async_start_new_kernel_client(self) -> Any:
        """Connect to the kernel, or end it where that is cancelled: nbclient would leave it until the process ends."""
        try:
            return await super().async_start_new_kernel_client()
        except asyncio.CancelledError:
            await self._async_cleanup_kernel()
            atexit.unregister(self._cleanup_kernel)
            raise
