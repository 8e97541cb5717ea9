"""What can go wrong, in words for the person at the notebook.

``str(error)`` is what JupyterLab's "Error Starting Kernel" dialog, the terminal and the log show, so each
class says what happened and why, and names the one thing to do next. A foreign exception is translated
once, at the door where it comes in, with ``raise … from error``.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether the system refused something because the disk, or the user's share of it, is full."""
    return error.errno in _FULL


class TfgpuError(Exception):
    """Base of every failure that this package explains.

    :param message: what happened and why, one or two sentences.
    :param remedy: the one thing to do next, an imperative sentence.
    :param details: the original text (an engine's answer, the tail of a log), kept below the explanation.
    """

    code: ClassVar[str] = "internal"
    """Kebab-case name of the kind of failure; stable, for programs and for ``docs/errors.md``."""

    def __init__(self, message: str, remedy: str, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details.strip()

    def __str__(self) -> str:
        """The message, the remedy, and the details below them."""
        parts = [self.message, f"What to do: {self.remedy}"]
        if self.details:
            parts.append(f"Details:\n{self.details}")
        return "\n\n".join(parts)


class ConfigError(TfgpuError):
    """A setting of the kernel has a value that can't be used."""

    code = "bad-setting"


class EngineNotFound(TfgpuError):
    """No Docker engine answers at any of the usual places."""

    code = "no-engine"


class EngineNotPermitted(TfgpuError):
    """There is an engine, but this user may not talk to it."""

    code = "engine-not-permitted"


class EngineNotAnswering(TfgpuError):
    """The engine accepts the connection but gives no answer in time, or the connection breaks."""

    code = "engine-not-answering"


class EngineRefused(TfgpuError):
    """The engine answered a request with an error that has no class of its own."""

    code = "engine-refused"


class ContainerGone(TfgpuError):
    """The container that was asked about does not exist (any more)."""

    code = "container-gone"


class EngineUnsuitable(TfgpuError):
    """The engine can't run a kernel as the user: a rootless one for somebody else, or Windows containers."""

    code = "engine-unsuitable"


class NoSpace(TfgpuError):
    """The disk of the engine, or of the run folder, is full."""

    code = "no-space"


class RunFolderNotShared(TfgpuError):
    """Server and container don't see the same run folder: the engine runs elsewhere, or in a sandbox."""

    code = "run-folder-not-shared"


class MountRefused(TfgpuError):
    """A folder was asked for that a kernel must not, or can't, have."""

    code = "mount-refused"


class ImageNotFound(TfgpuError):
    """The image is neither here nor at its registry."""

    code = "image-not-found"


class RegistryUnreachable(TfgpuError):
    """The image is not here, and its registry gives no usable answer."""

    code = "registry-unreachable"


class ImageUnusable(TfgpuError):
    """The image is here, but no kernel can run in it (no Python, Python 2, musl, wrong architecture)."""

    code = "image-unusable"


class ImageBuildFailed(TfgpuError):
    """Completing or building an image failed."""

    code = "image-build-failed"


class GpuUnusable(TfgpuError):
    """A GPU is required, and there is none that a container could use."""

    code = "gpu-unusable"


class GpusTaken(TfgpuError):
    """The GPUs are all held by others; the text says by whom, since when, and who is idle."""

    code = "gpus-taken"


class GpuLost(TfgpuError):
    """A GPU went away under a running kernel."""

    code = "gpu-lost"


class GpuFreed(TfgpuError):
    """A kernel that held a GPU and did nothing was shut down, as the setting gpu_idle_timeout says."""

    code = "gpu-freed"


class KernelCulled(TfgpuError):
    """Jupyter's own culling (cull_idle_timeout) shut a kernel down that did nothing."""

    code = "kernel-culled"


class PolicyRefused(TfgpuError):
    """The administrator's policy (/etc/tfgpu/policy.toml) doesn't allow what was asked for."""

    code = "policy-refused"


class KernelDied(TfgpuError):
    """The kernel's container ended without having been asked to."""

    code = "kernel-died"


class KernelNotReady(TfgpuError):
    """The container runs, but its kernel gave no answer in time."""

    code = "kernel-not-ready"


class PortUnreachable(TfgpuError):
    """A port of a kernel's container was asked for, and nothing answers there."""

    code = "port-unreachable"


class KernelNotAdopted(TfgpuError):
    """A kernel outlived its server, and this server could not take it up; it goes on."""

    code = "kernel-not-adopted"


class KernelNotFound(TfgpuError):
    """No kernel of this user bears that id or name."""

    code = "kernel-not-found"


class ServerNotFound(TfgpuError):
    """No running Jupyter server of this user can do what was asked for, or it isn't clear which one shall."""

    code = "server-not-found"


class LockInvalid(TfgpuError):
    """What a notebook has in the place of its lock is none, so nothing of it is used."""

    code = "lock-invalid"


class LockTooNew(TfgpuError):
    """A notebook was locked by a later version of this package."""

    code = "lock-too-new"


class NotLocked(TfgpuError):
    """A notebook has no lock, or one without results to compare with."""

    code = "not-locked"


class LockStopped(TfgpuError):
    """A notebook can't be locked: a cell failed in a clean kernel."""

    code = "lock-stopped"


class RunStopped(TfgpuError):
    """A notebook's run broke off in the middle: its kernel died, or a cell took too long."""

    code = "run-stopped"


class NotebookChanged(TfgpuError):
    """A notebook's file was changed while a verb worked on it, and is not written over."""

    code = "notebook-changed"


class ConsentNeeded(TfgpuError):
    """A locked notebook wants an image, or packages, that nobody here has agreed to yet."""

    code = "consent-needed"


class ImageDiffers(TfgpuError):
    """The image under a lock's name is not the one that was locked."""

    code = "image-differs"


class BundleRefused(TfgpuError):
    """A bundle is damaged, was changed, or holds what it must not hold."""

    code = "bundle-refused"


def unexpected(error: Exception) -> TfgpuError:
    """Return the error for one that no door has translated: a folder that can't be written, or a mistake of ours.

    One of ours is returned as it is.
    """
    if isinstance(error, TfgpuError):
        return error
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        kind = NoSpace if is_full(error) else TfgpuError
        return kind(
            f"The kernel did not start, since the system refused something ({error.strerror}{where}).",
            "make room on the disk that holds it, or see to it that you may write there, and try again.",
            repr(error),
        )
    return TfgpuError(
        "The kernel did not start, for a reason that was not foreseen.",
        "try again; if it stays, report it with the server's log.",
        repr(error),
    )
