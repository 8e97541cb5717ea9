"""The JSON that browsers get: frozen records, made from the package's own by pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from ..errors import TfgpuError
from ..launches import Launch
from ..notices import Notice
from ..obituaries import Obituary
from .actions import Action, actions

_SUBJECT: Final = "The kernel"
"""How the account of a death begins; among several notebooks one must know whose."""


@dataclass(frozen=True)
class Failure:
    """What went wrong; see :class:`tfgpu_kernel.errors.TfgpuError` for the first fields."""

    code: str
    message: str
    remedy: str
    details: str
    actions: tuple[Action, ...]
    """What one click can do about it, the most useful first."""


@dataclass(frozen=True)
class LaunchState:
    """One launch as it stands. Times in seconds since the epoch; ``path`` as the Contents API has it."""

    kernel_id: str
    kernel_name: str
    path: str
    restart: bool
    started: float
    phase: str
    text: str
    fraction: float | None
    done: int | None
    total: int | None
    seconds_left: float | None
    ended: float | None
    failure: Failure | None
    notices: tuple[str, ...] = ()
    """Sentences to read: why this image, and what won't work with it on this machine."""
    preset: str = ""
    """The preset that one of them advises to take instead."""


@dataclass(frozen=True)
class Death:
    """One unasked end of a kernel."""

    kernel_id: str
    kernel_name: str
    path: str
    time: float
    failure: Failure


def launch_state(launch: Launch, root: str, ended: float | None = None) -> LaunchState:
    """Return a launch as browsers get it; ``root`` is the server's root folder."""
    step = launch.step
    return LaunchState(
        kernel_id=launch.kernel_id,
        kernel_name=launch.kernel_name,
        path=contents_path(launch.notebook, root),
        restart=launch.restart,
        started=launch.started,
        phase=step.phase if step else "engine",
        text=step.text if step else "",
        fraction=step.fraction if step else None,
        done=step.done if step else None,
        total=step.total if step else None,
        seconds_left=step.seconds_left if step else None,
        ended=ended,
        failure=failure(launch.error) if launch.error else None,
        notices=tuple(launch.notices),
        preset=launch.preset,
    )


def death(obituary: Obituary | Notice, root: str) -> Death:
    """Return an obituary as browsers get it, with the notebook's name in the sentence."""
    path = contents_path(obituary.notebook, root)
    told = failure(obituary.account)
    message = told.message
    if path and message.startswith(_SUBJECT):
        message = f"The kernel of {PurePosixPath(path).name}{message.removeprefix(_SUBJECT)}"
    return Death(obituary.kernel_id, obituary.kernel_name, path, obituary.time, replace(told, message=message))


def failure(error: Exception) -> Failure:
    """Return an error's parts; one that is not ours has its text as message and no remedy."""
    if isinstance(error, TfgpuError):
        return Failure(error.code, error.message, error.remedy, error.details, actions(error))
    return Failure(TfgpuError.code, str(error) or type(error).__name__, "", "", actions(error))


def contents_path(notebook: str, root: str) -> str:
    """Return a host path as the Contents API names it; one outside ``root``, or relative, as it is."""
    if not notebook.startswith("/"):
        return notebook
    try:
        return str(PurePosixPath(notebook).relative_to(root))
    except ValueError:
        return notebook
