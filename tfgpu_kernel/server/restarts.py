"""One restart of a kernel at a time: whoever asks while one is under way gets that one, and its end waits for it.

A restart takes seconds where no kernel is ready, and a user who sees nothing happen asks again, or shuts the kernel
down. jupyter_client lets a second restart through, which would remove the sockets and the container that the first one
has just made; and it fails to end a kernel that is being restarted, and with that one all others at the server's end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from .. import launches
from ..provisioner import TfgpuProvisioner

_LOOK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 30.0
"""How long an automatic restart may take until its launch begins: it removes the old container first."""


class Restarts:
    """Takes the place of a kernel manager's ``restart_kernel``, and ``shutdown`` that of its ``shutdown_kernel``.

    Kernels that run in no container are left alone.
    """

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self._restart: Callable[..., Awaitable[Any]] = kernels.restart_kernel
        self._shutdown: Callable[..., Awaitable[Any]] = kernels.shutdown_kernel
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    async def __call__(self, kernel_id: str, now: bool = False) -> Any:
        """Restart a kernel, or wait for the restart that is under way; return what Jupyter does."""
        manager = self._manager(kernel_id)
        if manager is None:
            return await self._restart(kernel_id, now=now)
        task = self._under_way.get(kernel_id)
        if task is None:
            task = self._under_way[kernel_id] = asyncio.ensure_future(self._begin(kernel_id, manager, now))
            task.add_done_callback(lambda _: self._under_way.pop(kernel_id))
        # One that goes away takes nobody's restart with it.
        return await asyncio.shield(task)

    async def shutdown(self, kernel_id: str, now: bool = False, restart: bool = False) -> Any:
        """End a kernel; a start or restart of it that is under way is cancelled first.

        One that is gone by then needs no end: jupyter_client says so for one that ends already, but fails for others.
        """
        starting = self._kernels._pending_kernels.get(kernel_id)
        if kernel_id not in self._kernels and isinstance(starting, asyncio.Future):
            _cancel(kernel_id)
            await asyncio.wait({starting})
            if kernel_id not in self._kernels:
                return None
        manager = self._manager(kernel_id)
        if manager is not None:
            await self._settled(kernel_id, manager)
            if kernel_id not in self._kernels:
                return None
        return await self._shutdown(kernel_id, now=now, restart=restart)

    async def _settled(self, kernel_id: str, manager: Any) -> None:
        """Cancel a restart, and wait until it is over; an end that is under way is jupyter_client's to wait for."""
        cancelled = None
        until = time.monotonic() + _PATIENCE_SECONDS
        while not manager.ready.done() and kernel_id not in self._kernels._pending_kernels:
            launch = launches.find(kernel_id)
            if launch is not None and launch is not cancelled:  # a second time would break its undoing off
                cancelled = _cancel(kernel_id)
            if launch is None and kernel_id not in self._under_way and time.monotonic() > until:
                return
            await asyncio.wait({_of_this_loop(manager.ready)}, timeout=_LOOK_SECONDS)

    async def _begin(self, kernel_id: str, manager: Any, now: bool) -> Any:
        """Restart a kernel once nothing else happens to it: it may just be restarted because it died."""
        while not manager.ready.done():
            await asyncio.wait({_of_this_loop(manager.ready)})
        return await self._restart(kernel_id, now=now)

    def _manager(self, kernel_id: str) -> Any:
        """Return the manager of a kernel that runs in a container, else None."""
        manager = self._kernels.get_kernel(kernel_id) if kernel_id in self._kernels else None
        return manager if isinstance(getattr(manager, "provisioner", None), TfgpuProvisioner) else None


def _cancel(kernel_id: str) -> launches.Launch | None:
    launch = launches.find(kernel_id)
    if launch is not None:
        launch.cancel()
    return launch


def _of_this_loop(pending: Any) -> asyncio.Future[Any]:
    """Return a future to wait for; jupyter_client makes another kind where no loop runs."""
    return pending if isinstance(pending, asyncio.Future) else asyncio.wrap_future(pending)
