"""What of the environment that a caller hands over enters a kernel's container: what it added to the server's own.

A caller hands over the server's whole environment with its own variables in it, and jupyter_client keeps that for
restarts, while jupyter_server puts the whole one of a later moment into it when a notebook is renamed. So at a restart
nothing tells any more what was the server's: a token that was changed or removed since would pass for an addition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from .lock.start import LOCK_OF

SESSION: Final = "JPY_SESSION_NAME"
"""The notebook's path, which changes with its name (``KernelManager.update_env``)."""
_NOT_THE_KERNELS: Final = frozenset({"JPY_PARENT_PID", LOCK_OF})


def added(env: Mapping[str, str], server: Mapping[str, str], named: Collection[str]) -> dict[str, str]:
    """Return what a first start adds to the server's environment, which both have at the same moment.

    :param named: names that kernel.json sets, also where the server has the same value.
    """
    return {
        name: text
        for name, text in env.items()
        if (name in named or server.get(name) != text) and name not in _NOT_THE_KERNELS
    }


def again(before: Mapping[str, str], env: Mapping[str, str], named: Collection[str]) -> dict[str, str]:
    """Return what a restart adds: what the start before it did, with the notebook's name and kernel.json of now."""
    return {**before, **{name: env[name] for name in (*named, SESSION) if name in env}}
