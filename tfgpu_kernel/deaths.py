"""Why a kernel ended: from exit code, engine's flags and last lines to a sentence and a remedy."""

from __future__ import annotations

import re
import signal
from typing import Final

from . import troubles
from .boot import codes
from .engine.base import Exit
from .errors import ImageUnusable, KernelDied, MountRefused, RunFolderNotShared, TfgpuError

_SIGNALLED: Final = 128
"""A process ended by signal N is reported as exit code 128 + N (the convention of shells and init)."""
UNKNOWN: Final = 255
"""What Docker notes of a container that it finds ended when it starts itself, after a power cut say."""
_BY_THE_ENGINE: Final = frozenset({_SIGNALLED + signal.SIGTERM, _SIGNALLED + signal.SIGKILL, UNKNOWN})
"""How containers end that a stopping, or a starting, engine takes down."""
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_PYTHON_NO_SCRIPT: Final = 2
_DISK_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


def explain(
    end: Exit, log: str, *, image: str, memory: int | None, gpus: bool = False, rebooted: bool = False
) -> TfgpuError:
    """Return the account of a kernel's end.

    :param log: the last lines that the container printed.
    :param image: the image's name, for the sentence.
    :param memory: the kernel's limit in bytes, or None.
    :param gpus: whether it had any; else TensorFlow's complaints of having none are none.
    :param rebooted: whether the machine was restarted since the kernel's owner was there.
    """
    if end.code in {codes.NO_RUN_FOLDER, codes.NO_FOLDER} or (
        end.code == _PYTHON_NO_SCRIPT and "can't open file '/tfgpu/run/" in log
    ):
        return RunFolderNotShared(
            "The container started, but does not see the folder that this server shares with it: the engine "
            "runs on another machine, in a virtual machine, in a sandbox, or has another user's rights.",
            "use an engine of this machine that was installed from your distribution's or Docker's own "
            "packages.",
            log,
        )
    if end.code == codes.MOUNT_REPLACED:
        return MountRefused(
            "A folder that was to be mounted was replaced by another while the kernel started, so it was ended before "
            "any cell could run.",
            "start the kernel again; if this repeats, find out what replaces the folder named below.",
            log,
        )
    if end.code == codes.NOT_FURNISHED:
        return KernelDied(
            "The kernel's container never got its files from this server: the engine or the machine was too busy, or "
            "the server was held up.",
            "start the kernel again when the machine is less busy.",
            log,
        )
    if end.code == codes.NO_IPYKERNEL:
        return ImageUnusable(
            f"The image {image} has a Python without ipykernel, and was started all the same.",
            "restart the kernel; the image will be completed first.",
            log,
        )
    if end.code in {_NOT_EXECUTABLE, _NOT_FOUND}:
        return ImageUnusable(
            f"The image {image} has no Python that could be started.",
            "choose an image with Python 3, such as tensorflow/tensorflow:2.17.0-gpu.",
            log or end.error,
        )
    message, remedy = _story(end, memory, log, rebooted)
    trouble = troubles.find(f"{end.error}\n{log}") if gpus else None
    # Out of main memory is out of main memory, whatever was said before.
    if trouble is not None and not (end.oom_killed and end.code == _SIGNALLED + signal.SIGKILL):
        message, remedy = f"{message} {trouble.cause}", trouble.remedy
    return KernelDied(message, remedy, log or end.error)


def _story(end: Exit, memory: int | None, log: str, rebooted: bool) -> tuple[str, str]:
    """Return what happened and what to do, for a kernel that had begun to run."""
    limit = f" at {_size(memory)} (limit {_size(memory)})" if memory else ""
    if rebooted and end.code in _BY_THE_ENGINE and not end.oom_killed:
        # Who shuts a machine down ends what runs there first; by hand one can do so, too.
        seems = "" if end.code == UNKNOWN else f", it seems (signal {end.code - _SIGNALLED})"
        return (
            f"The machine was restarted, or lost its power, and the kernel ended with it{seems}.",
            "start the kernel again; what it had saved, such as checkpoints, is there.",
        )
    if end.unseen and end.code in _BY_THE_ENGINE and not end.oom_killed:
        return (
            "The Docker engine was restarted, and all its containers ended with it; this kernel, too.",
            'restart the kernel. With "live-restore": true in /etc/docker/daemon.json kernels outlive their engine.',
        )
    if end.error:
        return f"The kernel ended: {end.error}.", "restart the kernel."
    # The engine's flag is set when only a child was killed, too; then the kernel's own code isn't 137.
    if end.oom_killed and end.code == _SIGNALLED + signal.SIGKILL:
        return (
            f"The kernel ran out of memory{limit} and was ended by the system.",
            "use smaller batches or less data at once, or give the kernel more (memory).",
        )
    if end.code == _SIGNALLED + signal.SIGABRT and (words := _last_words(log)):
        return (
            f"The kernel ended because TensorFlow aborted: {words}",
            "restart the kernel; read the lines before it, below, for what led to it.",
        )
    if _DISK_FULL.search(log):
        return (
            f"The kernel ended with exit code {end.code}, since a disk was full.",
            "make room: df -h shows which disk; jupyter tfgpu prune removes what no kernel uses.",
        )
    if end.oom_killed:
        return (
            f"The kernel ended with exit code {end.code}, after a process that it started ran out of memory{limit}.",
            "start fewer processes (workers of a data loader), or give the kernel more (memory).",
        )
    if end.code > _SIGNALLED:
        name = _signal_name(end.code - _SIGNALLED)
        return (
            f"The kernel was ended by signal {end.code - _SIGNALLED} ({name}).",
            "read the last lines below; SIGSEGV and SIGABRT come from native code such as TensorFlow, "
            "SIGTERM and SIGKILL from outside the container: somebody ended it, the Docker engine was stopped, or the "
            "machine ran out of memory (sudo dmesg says).",
        )
    return (
        f"The kernel ended by itself with exit code {end.code}.",
        "read the last lines that it printed, below, and restart it.",
    )


def _last_words(log: str) -> str:
    """Return what native code of TensorFlow printed as it gave up (level F), or nothing.

    Such a line is ``2024-01-02 03:04:05.678: F external/…/gpu_timer.cc:42] Non-OK-status: …``; newer ones begin
    with abseil's ``F0000 00:00:…``.
    """
    fatal = re.findall(r"^.*\bF(?:\d{4})? .*?\.(?:cc|h|cu):\d+\] (.+)$", log, re.MULTILINE)
    return str(fatal[-1]).strip() if fatal else ""


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
