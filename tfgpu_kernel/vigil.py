"""Whether running kernels still have their GPUs: one thread for all of this process, alive only while one has any.

It asks NVML for the GPUs, and looks for the mark that a kernel leaves which may not open NVIDIA's device files any
more (:mod:`tfgpu_kernel.boot.gpu`). The engine is never asked.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerYet
from dataclasses import dataclass, replace
from typing import Final

from . import notices
from .boot.gpu import LOST_FILE, NOTICE_FILE
from .errors import GpuLost, GpuUnusable, NoSpace
from .gpu import nvml
from .gpus import Grant
from .notices import Notice
from .runfolder import RunFolder

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 4.0
"""With the kernel's own look every 3 s, a loss is told within 10 s, also on a busy machine."""
NVML_SECONDS: Final = 3.0
"""How long a look waits for the driver's answer; the next look goes on waiting for the same one."""
SILENT_SECONDS: Final = nvml.PATIENCE_SECONDS
"""After so long without an answer that is told. A slow driver is no lost GPU."""
KEEP_SECONDS: Final = 60.0
"""How long NVML stays open: opened for each look, it would start up each GPU that sleeps."""

Tell = Callable[[GpuLost], None]
"""Called on the thread that looks: once for a loss, and before that perhaps once because the driver is silent."""


@dataclass(frozen=True)
class _Watched:
    run: RunFolder
    uuids: tuple[str, ...]
    tell: Tell
    doubted: bool = False
    """Whether it was told that the driver is silent."""


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
        try:
            run.share(NOTICE_FILE, f"tfgpu: {account.message} What to do: {account.remedy}\n".encode(), *owner)
        except NoSpace as error:  # then the first cell doesn't say it, but the page does
            log.warning("Kernel %s: %s", notice.kernel_id, error)
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
    """Return what the driver says happened to these GPUs, in words; empty while all are there. Pure."""
    if isinstance(sample, nvml.NvmlError):
        return str(sample)
    here = {gpu.uuid for gpu in sample.gpus} | {mig.uuid for gpu in sample.gpus for mig in gpu.mig_devices}
    gone = [uuid for uuid in uuids if uuid not in here]
    if not gone:
        return ""
    return "; ".join(f"GPU {gpu.index}: {gpu.cause}" for gpu in sample.failed) or "the driver doesn't list it any more"


def _look() -> None:
    global _thread
    answer: Future[nvml.Sample] | None = None
    asked = 0.0
    while True:
        _wake.wait(LOOK_SECONDS)
        with _lock:
            if not _watched:
                _thread = None
                break
            watched = tuple(_watched.values())
        if answer is None:
            answer, asked = nvml.ask(KEEP_SECONDS), time.monotonic()
        sample: nvml.Sample | nvml.NvmlError | None
        try:
            sample, answer = answer.result(NVML_SECONDS), None
        except NoAnswerYet:
            sample = None
        except nvml.NvmlError as error:
            sample, answer = error, None
        silent = time.monotonic() - asked if sample is None else 0.0
        for one in watched:
            _judge(one, sample, silent)
    nvml.release()


def _judge(one: _Watched, sample: nvml.Sample | nvml.NvmlError | None, silent: float) -> None:
    """Tell what is to be told of one kernel; the sample is None while the driver has been silent for so long."""
    if os.path.lexists(one.run.io / LOST_FILE):
        what = (
            "the container may not open NVIDIA's device files any more, since systemd set its rules anew "
            "(daemon-reload)"
        )
        remedy = (
            "restart the kernel, after saving what you need; for good: NVIDIA's toolkit 1.18 or newer, CDI, or the "
            "engine option native.cgroupdriver=cgroupfs."
        )
        _told(one, _account(what, remedy))
    elif sample is not None:
        what = lost(one.uuids, sample)
        if what:
            remedy = "save what you need and restart the kernel; if no GPU comes back: jupyter tfgpu doctor."
            _told(one, _account(what, remedy))
    elif silent >= SILENT_SECONDS and not one.doubted:
        what = f"The kernel may have lost its GPU: the NVIDIA driver has given no answer for {silent:.0f} s."
        remedy = "save what you need; if nvidia-smi hangs, too, look for Xid in sudo dmesg, and reboot."
        _told(one, GpuLost(what, remedy), replace(one, doubted=True))


def _account(what: str, remedy: str) -> GpuLost:
    return GpuLost(f"The kernel has lost its GPU: {what}.", remedy)


def _told(one: _Watched, account: GpuLost, after: _Watched | None = None) -> None:
    """Tell it, and watch on as ``after`` says, or no more."""
    with _lock:
        # It may have ended, or be watched anew after a restart, while NVML was asked.
        if _watched.get(str(one.run.path)) is not one:
            return
        if after is None:
            del _watched[str(one.run.path)]
        else:
            _watched[str(one.run.path)] = after
    one.tell(account)
