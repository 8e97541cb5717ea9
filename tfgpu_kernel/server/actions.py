"""What a person can do about a failure with one click: from its code, a list that the browser turns into buttons."""

from __future__ import annotations

from typing import Final, Literal

from .. import troubles
from ..errors import (
    EngineNotAnswering,
    EngineNotFound,
    EngineNotPermitted,
    EngineRefused,
    EngineUnsuitable,
    GpusTaken,
    GpuUnusable,
    ImageBuildFailed,
    ImageNotFound,
    ImageUnusable,
    KernelDied,
    KernelNotAdopted,
    KernelNotReady,
    NoSpace,
    RegistryUnreachable,
    RunFolderNotShared,
    TfgpuError,
)

Action = Literal["retry", "start-on-cpu", "use-preset", "free-gpu", "open-doctor"]
"""``retry`` starts the same kernel again; ``start-on-cpu`` takes the kernel for the CPU instead; ``use-preset`` one
with the newest image that is known to work here; ``free-gpu`` shuts a notebook down that holds a GPU, and tries again;
``open-doctor`` shows what is wrong with the machine."""

_OF_THE_IMAGE: Final = {"image-too-old-for-gpu", "library-mismatch", "driver-too-old"}
"""Troubles that another image ends."""

_BY_CODE: Final[dict[str, tuple[Action, ...]]] = {
    GpuUnusable.code: ("start-on-cpu", "open-doctor"),
    EngineNotFound.code: ("retry", "open-doctor"),
    EngineNotPermitted.code: ("retry", "open-doctor"),
    EngineNotAnswering.code: ("retry", "open-doctor"),
    EngineRefused.code: ("retry", "open-doctor"),
    EngineUnsuitable.code: ("open-doctor",),
    RunFolderNotShared.code: ("open-doctor",),
    NoSpace.code: ("retry", "open-doctor"),
    GpusTaken.code: ("free-gpu", "retry"),
    ImageNotFound.code: ("retry", "use-preset"),
    RegistryUnreachable.code: ("retry",),
    ImageUnusable.code: ("retry", "use-preset"),
    ImageBuildFailed.code: ("retry",),
    KernelDied.code: ("retry",),
    KernelNotReady.code: ("retry",),
    KernelNotAdopted.code: (),  # it runs; another start would be another kernel
}


def actions(error: Exception) -> tuple[Action, ...]:
    """Return what can be done about an error, the most useful first.

    An error that isn't listed can be tried again: its remedy names something outside Jupyter to do first.
    """
    code = error.code if isinstance(error, TfgpuError) else TfgpuError.code
    trouble = troubles.find(error.details) if isinstance(error, KernelDied | EngineRefused | GpuUnusable) else None
    if trouble is not None and trouble.name in _OF_THE_IMAGE:
        return ("use-preset", *_BY_CODE[code])
    return _BY_CODE.get(code, ("retry",))
