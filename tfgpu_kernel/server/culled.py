"""Kernels that Jupyter's own culling shuts down: the page is told why, as it is of one that held a GPU for nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .. import obituaries
from ..errors import KernelCulled
from ..obituaries import Obituary
from .idle import duration
from .roster import HOST, Resident


class Culling(Protocol):
    """What of jupyter_server's kernel manager is used."""

    @property
    def cull_kernel_if_idle(self) -> Callable[[str], Awaitable[None]]:
        """End a kernel, if it is idle for too long."""
        ...

    def __contains__(self, kernel_id: str) -> bool:
        """Whether a kernel of this id runs."""
        ...


class Residents(Protocol):
    """What of the roster is used."""

    async def residents(self) -> Sequence[Resident]:
        """Return the kernels that run."""
        ...


class Culled:
    """Takes the place of a kernel manager's ``cull_kernel_if_idle``, and publishes why a kernel went.

    Jupyter itself writes only a line in the server's log.
    """

    def __init__(self, kernels: Culling, roster: Residents) -> None:
        self._kernels = kernels
        self._roster = roster
        self._cull = kernels.cull_kernel_if_idle

    async def __call__(self, kernel_id: str) -> None:
        """Let Jupyter judge a kernel; tell of it when it is gone then."""
        # Which notebook it belongs to, nobody knows afterwards.
        before = {resident.kernel_id: resident for resident in await self._roster.residents()}.get(kernel_id)
        await self._cull(kernel_id)
        if before is None or before.container == HOST or before.state == "dead" or kernel_id in self._kernels:
            return
        obituaries.publish(Obituary(kernel_id, before.kernel_name, before.path, culled(before.idle_seconds)))


def culled(idle_seconds: float | None) -> KernelCulled:
    """Return why a kernel was shut down; ``idle_seconds`` None for one that was busy (Jupyter's ``cull_busy``)."""
    why = f"it had done nothing for {duration(idle_seconds)}" if idle_seconds is not None else "nothing came from it"
    return KernelCulled(
        f"The kernel was shut down by Jupyter, because {why} (cull_idle_timeout).",
        "run the notebook's cells again; cull_idle_timeout in the server's settings says how long a kernel may be "
        "idle, 0 for ever.",
    )
