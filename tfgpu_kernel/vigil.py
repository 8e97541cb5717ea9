"""Whether running kernels still have their GPUs: one thread for all of this process, alive only while one has any.

It asks NVML for the GPUs, and looks for the mark that a kernel leaves which may not open NVIDIA's device files any
more (:mod:`tfgpu_kernel.boot.gpu`). The engine is never asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from . import notices
from .boot.gpu import LOST_FILE, NOTICE_FILE
from .errors import GpuLost, GpuUnusable
from .gpu import nvml, units
from .gpus import Grant
from .notices import Notice
from .runfolder import RunFolder

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 4.0
"""With the kernel's own look every 3 s, a loss is told within 10 s, also on a busy machine."""
NVML_SECONDS: Final = 3.0
SURE_AFTER: Final = 2
"""So many looks in a row must go without an answer; a busy machine may miss one."""

Tell = Callable[[GpuLost], None]
"""Called once, on the thread that looks."""


@dataclass(frozen=True)
class _Watched:
    run: RunFolder
    uuids: tuple[str, ...]
    tell: Tell


_watched: dict[str, _Watched] = {}
_lock = threading.Lock()
_wake = threading.Event()
_thread: threading.Thread | None = None


def begin(notice: Notice, run: RunFolder, grant: Grant, owner: tuple[int, int]) -> None:
    """Tell what must be told of a kernel's GPUs when it starts, and look after them.

    :param notice: what a notice of this kernel says of it; its account is replaced.
    :param owner: user and group of the kernel on the host.
    """
    run.clear(NOTICE_FILE)
    if grant.cpu_because:
        account = GpuUnusable(f"This kernel runs on the CPU. {grant.cpu_because}", "see jupyter tfgpu doctor.")
        run.share(NOTICE_FILE, f"tfgpu: {account.message} What to do: {account.remedy}\n".encode(), *owner)
        log.warning("Kernel %s: %s", notice.kernel_id, account.message)
        notices.publish(replace(notice, account=account, time=time.time()))

    def tell(account: GpuLost) -> None:
        log.error("Kernel %s: %s", notice.kernel_id, account)
        notices.publish(replace(notice, account=account, time=time.time()))

    watch(run, grant.uuids, tell)


def watch(run: RunFolder, uuids: Sequence[str], tell: Tell) -> None:
    """Look after a kernel's GPUs until one is lost, or :func:`unwatch`."""
    global _thread
    run.clear(LOST_FILE)
    if not uuids:
        return
    with _lock:
        _watched[str(run.path)] = _Watched(run, tuple(uuids), tell)
        if _thread is None:
            _wake.clear()
            _thread = threading.Thread(target=_look, name="tfgpu-vigil", daemon=True)
            _thread.start()


def unwatch(run: RunFolder) -> None:
    """Look after a kernel's GPUs no more."""
    with _lock:
        _watched.pop(str(run.path), None)
        if not _watched:
            _wake.set()


def lost(uuids: Sequence[str], sample: nvml.Sample | nvml.NvmlError) -> str:
    """Return what happened to these GPUs, in words; empty while all are there. Pure."""
    if isinstance(sample, nvml.NvmlError):
        return str(sample)
    here = {unit.uuid for unit in units.units(sample)} | {gpu.uuid for gpu in sample.gpus}
    gone = [uuid for uuid in uuids if uuid not in here]
    if not gone:
        return ""
    return "; ".join(f"GPU {gpu.index}: {gpu.cause}" for gpu in sample.failed) or "the driver doesn't list it any more"


def _look() -> None:
    global _thread
    silent = 0
    while True:
        _wake.wait(LOOK_SECONDS)
        with _lock:
            if not _watched:
                _thread = None
                return
            watched = tuple(_watched.values())
        sample: nvml.Sample | nvml.NvmlError
        try:
            sample = asyncio.run(nvml.sample_async(NVML_SECONDS))
            silent = 0
        except nvml.NvmlError as error:
            sample = error
            silent += 1
        for one in watched:
            if os.path.lexists(one.run.io / LOST_FILE):
                _told(one, _account("the container may not open NVIDIA's device files any more, since systemd set its "
                                    "rules anew (daemon-reload)", "restart the kernel, after saving what you need; for "
                                    "good: NVIDIA's toolkit 1.18 or newer, CDI, or the engine option "
                                    "native.cgroupdriver=cgroupfs."))  # fmt: skip
            elif isinstance(sample, nvml.Sample) or sample.code is not None or silent >= SURE_AFTER:
                what = lost(one.uuids, sample)
                if what:
                    remedy = "save what you need and restart the kernel; if no GPU comes back: jupyter tfgpu doctor."
                    _told(one, _account(what, remedy))


def _account(what: str, remedy: str) -> GpuLost:
    return GpuLost(f"The kernel has lost its GPU: {what}.", remedy)


def _told(one: _Watched, account: GpuLost) -> None:
    with _lock:
        # It may have ended, or be watched anew after a restart, while NVML was asked.
        if _watched.get(str(one.run.path)) is not one:
            return
        del _watched[str(one.run.path)]
    one.tell(account)
