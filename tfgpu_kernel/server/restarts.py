"""One restart of a kernel at a time: whoever asks while one is under way gets that one.

A restart takes seconds where no kernel is ready, and a user who sees nothing happen asks again. jupyter_client lets
that through: the second restart would remove the sockets and the container that the first one has just made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..provisioner import TfgpuProvisioner


class Restarts:
    """Takes the place of a kernel manager's ``restart_kernel``; kernels that run in no container are left alone."""

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self._restart: Callable[..., Awaitable[Any]] = kernels.restart_kernel
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    async def __call__(self, kernel_id: str, now: bool = False) -> Any:
        """Restart a kernel, or wait for the restart that is under way; return what Jupyter does."""
        manager = self._kernels.get_kernel(kernel_id) if kernel_id in self._kernels else None
        if not isinstance(getattr(manager, "provisioner", None), TfgpuProvisioner):
            return await self._restart(kernel_id, now=now)
        task = self._under_way.get(kernel_id)
        if task is None:
            task = self._under_way[kernel_id] = asyncio.ensure_future(self._begin(kernel_id, manager, now))
            task.add_done_callback(lambda _: self._under_way.pop(kernel_id))
        # One that goes away takes nobody's restart with it.
        return await asyncio.shield(task)

    async def _begin(self, kernel_id: str, manager: Any, now: bool) -> Any:
        """Restart a kernel once nothing else happens to it: it may just be restarted because it died."""
        while not manager.ready.done():
            await asyncio.wait({_of_this_loop(manager.ready)})
        return await self._restart(kernel_id, now=now)


def _of_this_loop(pending: Any) -> asyncio.Future[Any]:
    """Return a future to wait for; jupyter_client makes another kind where no loop runs."""
    return pending if isinstance(pending, asyncio.Future) else asyncio.wrap_future(pending)
