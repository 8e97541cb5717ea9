"""Kernels that are left dead: what they held is given back at once, not when the server ends."""

from __future__ import annotations

import asyncio
from typing import Any

from ..adopt import Log
from ..provisioner import TfgpuProvisioner


class GivenUp:
    """Takes the place of a kernel manager's ``_handle_kernel_died``, and cleans up what that leaves of our kernels.

    jupyter_server calls it when a kernel died and starts no more, and only forgets the kernel: its run folder, and the
    file with its key, would stay.
    """

    def __init__(self, kernels: Any, log: Log) -> None:
        self._kernels = kernels
        self._died = kernels._handle_kernel_died
        self._log = log
        self._cleaning: set[asyncio.Task[None]] = set()

    def __call__(self, kernel_id: str) -> None:
        """Forget a kernel as Jupyter does, and begin to clean up."""
        manager = self._kernels.get_kernel(kernel_id) if kernel_id in self._kernels else None
        self._died(kernel_id)
        if isinstance(getattr(manager, "provisioner", None), TfgpuProvisioner):
            task = asyncio.get_running_loop().create_task(self._clean(kernel_id, manager))
            self._cleaning.add(task)
            task.add_done_callback(self._cleaning.discard)

    async def close(self) -> None:
        """Wait until all is clean."""
        await asyncio.gather(*self._cleaning)

    async def _clean(self, kernel_id: str, manager: Any) -> None:
        try:
            await manager.cleanup_resources()
        except Exception:
            self._log.exception("What is left of kernel %s stays until the server ends", kernel_id)
