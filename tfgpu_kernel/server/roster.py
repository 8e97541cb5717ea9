"""Who runs in which container: this server's kernels, with the notebooks that they belong to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tornado import web

from ..provisioner import TfgpuProvisioner

HOST: Final = ""
"""The container of a kernel that runs in none."""


@dataclass(frozen=True)
class Resident:
    """One running kernel.

    :param path: its notebook as the Contents API has it; empty for a kernel that no document belongs to.
    :param kind: Jupyter's word for the document: notebook, console, file; empty where there is none.
    :param state: Jupyter's word: starting, idle, busy, restarting, dead, unknown.
    :param idle_seconds: since its last activity, while it does nothing; None while it works, or where that isn't known.
    :param container: the container's id, or :data:`HOST`.
    :param gpus: UUIDs of the devices that it was granted.
    :param idle_timeout: its setting ``gpu_idle_timeout``, and ``idle_warning`` the other; in seconds.
    :param exclusive: whether its GPUs are its own.
    """

    kernel_id: str
    kernel_name: str
    path: str
    kind: str
    state: str
    idle_seconds: float | None
    container: str
    gpus: tuple[str, ...]
    idle_timeout: float = 0.0
    idle_warning: float = 0.0
    exclusive: bool = False


@dataclass(frozen=True)
class Warm:
    """A container that waits for a notebook: it has a kernel already, but nobody's."""

    container: str
    gpus: tuple[str, ...] = ()


class Kernels(Protocol):
    """What of jupyter_server's kernel manager is used."""

    def list_kernel_ids(self) -> list[str]:
        """Return the ids of the kernels that run."""
        ...

    def get_kernel(self, kernel_id: str) -> Any:
        """Return one kernel's manager."""
        ...


class Sessions(Protocol):
    """What of jupyter_server's session manager is used."""

    async def list_sessions(self) -> Sequence[Mapping[str, Any]]:
        """Return the documents that have a kernel."""
        ...


class Roster:
    """Looks kernels up in Jupyter's own managers.

    :param warm: the containers that wait, where there is a pool of them.
    """

    def __init__(self, kernels: Kernels, sessions: Sessions, warm: Callable[[], Sequence[Warm]] = tuple) -> None:
        self._kernels = kernels
        self._sessions = sessions
        self.warm = warm

    def containers(self) -> set[str]:
        """Return the ids of all containers that are told apart."""
        found = {container for _, _, container, _ in self._managers()} - {HOST}
        return found | {warm.container for warm in self.warm()}

    async def residents(self) -> list[Resident]:
        """Return the kernels, in the order of their start."""
        documents = {session["kernel"]["id"]: session for session in await self._sessions.list_sessions()}
        now = time.time()
        return [
            _resident(kernel_id, manager, container, gpus, documents.get(kernel_id, {}), now)
            for kernel_id, manager, container, gpus in self._managers()
        ]

    def idle_seconds(self, kernel_id: str) -> float | None:
        """Return how long a kernel has been idle at this very moment; None while it works, or where none runs."""
        try:
            return _idle_seconds(self._kernels.get_kernel(kernel_id), time.time())
        except (KeyError, web.HTTPError):  # jupyter_server's manager raises the latter
            return None

    def frees_gpus(self) -> bool:
        """Whether any kernel is to be shut down when it holds a GPU and is idle."""
        provisioners = (getattr(manager, "provisioner", None) for _, manager, _, _ in self._managers())
        return any(isinstance(one, TfgpuProvisioner) and one.gpu_idle_timeout > 0 for one in provisioners)

    def move(self, kernel_id: str, gpus: Sequence[str]) -> bool:
        """Let a kernel have these GPUs from its next restart on; False where no such kernel of ours runs.

        Whether it can have them is judged then, by the same rules as at a start.
        """
        try:
            provisioner = getattr(self._kernels.get_kernel(kernel_id), "provisioner", None)
        except (KeyError, web.HTTPError):  # jupyter_server's manager raises the latter
            return False
        if not isinstance(provisioner, TfgpuProvisioner):
            return False
        provisioner.gpus = list(gpus)
        return True

    def _managers(self) -> list[tuple[str, Any, str, tuple[str, ...]]]:
        """Return kernel id, manager, container and GPUs of each kernel."""
        found = []
        for kernel_id in self._kernels.list_kernel_ids():
            try:
                manager = self._kernels.get_kernel(kernel_id)
            except (KeyError, web.HTTPError):  # ended meanwhile
                continue
            provisioner = getattr(manager, "provisioner", None)
            if isinstance(provisioner, TfgpuProvisioner):
                gpus = tuple(provisioner.facts().get("gpus", ()))
                found.append((kernel_id, manager, provisioner.container or HOST, gpus))
            else:
                found.append((kernel_id, manager, HOST, ()))
        return found


def _resident(
    kernel_id: str,
    manager: Any,
    container: str,
    gpus: tuple[str, ...],
    document: Mapping[str, Any],
    now: float,
) -> Resident:
    own = getattr(manager, "provisioner", None)
    limits: tuple[float, float, bool] = (0.0, 0.0, False)
    if isinstance(own, TfgpuProvisioner):
        limits = (own.gpu_idle_timeout, own.gpu_idle_warning, own.gpu_sharing == "exclusive")
    return Resident(
        kernel_id=kernel_id,
        kernel_name=manager.kernel_name,
        path=document.get("path", ""),
        kind=document.get("type", ""),
        state=_state(manager),
        idle_seconds=_idle_seconds(manager, now),
        container=container,
        gpus=gpus,
        idle_timeout=limits[0],
        idle_warning=limits[1],
        exclusive=limits[2],
    )


def _state(manager: Any) -> str:
    return getattr(manager, "execution_state", None) or "unknown"


def _idle_seconds(manager: Any, now: float) -> float | None:
    active = getattr(manager, "last_activity", None)
    # A kernel that no page was ever connected to stays "starting" for Jupyter; whether it could be culled is what
    # counts, and that depends on "busy" alone.
    working = _state(manager) in {"busy", "restarting", "dead"}
    return None if working or active is None else max(0.0, now - active.timestamp())
