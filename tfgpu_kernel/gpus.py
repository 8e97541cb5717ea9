"""Which GPUs a kernel gets: judged from driver, NVML and engine before anything is created, then leased."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from . import lease
from .config import GpuWay, KernelConfig
from .engine.base import Engine, EngineInfo
from .errors import GpusTaken, GpuUnusable
from .gpu import nvml, units
from .gpu.request import CDI_KIND, NO_GPU, RUNTIME, GpuRequest, Way, cdi_name, request
from .gpu.units import Unit
from .lease import Holder
from .picking import Suits, any_suits, check_share, kept, pick
from .policy import Policy
from .progress import Report, Step
from .runfolder import RunFolder

TELL_SECONDS: Final = 3.0
"""After so long it is said what is waited for."""
FRESH_SECONDS: Final = 3.0
"""GPUs are leased by a sample that is no older: a pull may have lain between, and others computed meanwhile."""
LOOK_SECONDS: Final = 1.0
"""How often who waits looks again: nobody tells when a process outside lets go of a GPU."""
HOOKS: Final = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
"""What the engine looks for on its PATH to serve a device request."""


@dataclass(frozen=True)
class Grant:
    """What a kernel gets, and how its container is asked for with it.

    :param cuda: the newest CUDA that the driver serves.
    :param cpu_because: why it runs on the CPU though a GPU was wanted; empty otherwise.
    """

    request: GpuRequest
    units: tuple[Unit, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] | None = None
    cpu_because: str = ""

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of the GPUs and MIG devices granted."""
        return self.request.uuids


@dataclass(frozen=True)
class Judged:
    """What this machine can lend to a kernel, before anything is leased.

    :param sample: the GPUs as they are; None where none is wanted, or none is usable and none required.
    :param likely: the units that the kernel would get if it alone chose now; who is faster may change that.
    :param cpu_because: why it runs on the CPU though a GPU was wanted; empty otherwise.
    :param taken_at: when the sample was taken, on the monotonic clock.
    :param suits: whether the image that was chosen has code for a compute capability.
    """

    policy: Policy
    sample: nvml.Sample | None = None
    likely: tuple[Unit, ...] = ()
    cpu_because: str = ""
    taken_at: float = 0.0
    suits: Suits = any_suits

    @property
    def cuda(self) -> tuple[int, int] | None:
        """The newest CUDA that the driver serves."""
        return self.sample.cuda if self.sample else None


async def judge(
    config: KernelConfig,
    policy: Policy,
    info: EngineInfo,
    report: Report,
    run: RunFolder | None = None,
    suits: Suits = any_suits,
) -> Judged:
    """Find out whether a kernel could have the GPUs that it wants.

    :param run: the run folder of the kernel that this one follows (a restart), which keeps its GPUs.
    :raises GpuUnusable: when a GPU is required and none is usable.
    :raises ConfigError: when a GPU is named that this machine hasn't.
    """
    if config.gpus == 0:
        return Judged(policy)
    try:
        sample = await usable(info, config.gpu_request, report)
        taken_at = time.monotonic()
        here = units.units(sample)
        nobody = [replace(unit, computing=()) for unit in here]
        likely = pick(config, nobody, [], 0, suits=suits)
        granted([unit.uuid for unit in likely], sample, info, config.gpu_request)
    except GpuUnusable as error:
        if config.gpu_required:
            raise
        report(Step("gpu", f"Running on the CPU: {error.message}"))
        return Judged(policy, cpu_because=error.message)
    held = lease.holders()
    if run is not None:
        keeps = kept(config, here, [holder for holder in held if holder.run == str(run.path)])
        if keeps:
            return Judged(policy, sample, keeps, taken_at=taken_at, suits=suits)
        held = tuple(holder for holder in held if holder.run != str(run.path))
    with contextlib.suppress(GpusTaken):
        likely = pick(config, here, held, 0, policy, suits)
    return Judged(policy, sample, likely, taken_at=taken_at, suits=suits)


async def grant(
    judged: Judged, config: KernelConfig, engine: Engine, info: EngineInfo, run: RunFolder, uid: int, report: Report
) -> Grant:
    """Lease to a run folder the GPUs that its kernel gets.

    :raises GpusTaken: when others hold them, and the kernel is to fail then.
    :raises GpuUnusable: when one is required, and they went away since they were judged.
    :raises PolicyRefused: when the user has as many as allowed.
    """
    if judged.sample is None:
        return Grant(NO_GPU, cpu_because=judged.cpu_because)
    try:
        if time.monotonic() - judged.taken_at > FRESH_SECONDS:
            judged = replace(judged, sample=await usable(info, config.gpu_request, report))
        taken, sample = await _leased(config, judged, engine, run, uid, report)
        given = granted(taken, sample, info, config.gpu_request)
    except (GpusTaken, GpuUnusable) as error:
        if config.when_full != "cpu" if isinstance(error, GpusTaken) else config.gpu_required:
            raise
        await lease.release(run.path, engine)
        report(Step("gpu", f"Running on the CPU: {error.message}"))
        return Grant(NO_GPU, cpu_because=error.message)
    report(Step("gpu", f"Using {', '.join(f'GPU {unit.place} ({unit.name})' for unit in given.units)}"))
    unsure = [unit.place for unit in given.units if unit.computing is None]
    if unsure and config.gpu_sharing == "exclusive":
        text = f"The driver doesn't say who computes on GPU {', '.join(unsure)}; nobody seems to, by its memory."
        report(Step("gpu", text, notice=True))
    return given


async def usable(engine: EngineInfo, way: GpuWay, report: Report) -> nvml.Sample:
    """Return the machine's GPUs, if a container could use them.

    :raises GpuUnusable: with the lowest thing that is missing: driver, NVML, GPU, a way to ask for it.
    """
    step = Step("gpu", f"Asking the NVIDIA driver ({nvml.SLOW})")
    telling = asyncio.get_running_loop().call_later(TELL_SECONDS, report, step)
    try:
        sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
    except nvml.NvmlError as error:
        raise GpuUnusable(
            f"This machine has no usable NVIDIA GPU: {error}.",
            "run jupyter tfgpu doctor, which says what to install here; to run on the CPU instead, choose "
            "TensorFlow CPU (Docker), or set gpu_required to false.",
        ) from error
    finally:
        telling.cancel()
    if not sample.gpus:
        lost = "; ".join(f"GPU {gpu.index}: {gpu.cause}" for gpu in sample.failed)
        raise GpuUnusable(
            f"The NVIDIA driver runs, but sees no GPU{f' that works ({lost})' if lost else ''}.",
            "check that the GPU is plugged in and not lent to a virtual machine (nvidia-smi -L).",
        )
    if all(gpu.compute_mode == "prohibited" for gpu in sample.gpus):
        raise GpuUnusable(
            "Nobody may compute on any GPU of this machine (compute mode Prohibited).",
            "allow it: sudo nvidia-smi -c DEFAULT.",
        )
    if not units.units(sample):
        raise GpuUnusable(
            "Each GPU of this machine on which one may compute is in MIG mode, and none is cut into MIG devices.",
            "make some (sudo nvidia-smi mig -cgi 9 -C), or turn MIG mode off (sudo nvidia-smi -mig 0).",
        )
    how(engine, way, sample.gpus[0].name)
    return sample


def how(engine: EngineInfo, way: GpuWay, gpu: str) -> Way:
    """Return how the engine is asked for GPUs: as set, or the best that it offers.

    :raises GpuUnusable: when it offers none.
    """
    if way != "auto":
        return way
    if RUNTIME in engine.runtimes:
        return "runtime"
    if any(device.startswith(f"{CDI_KIND}=") for device in engine.cdi_devices):
        return "cdi"
    if any(shutil.which(hook) for hook in HOOKS):
        return "device-request"
    register = "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
    if engine.names_localhost:  # podman reads CDI alone
        register = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    raise GpuUnusable(
        f"This machine has a GPU ({gpu}), but its engine {engine.version} knows neither the nvidia runtime nor an "
        "NVIDIA device by CDI, which lend GPUs to containers.",
        f"install nvidia-container-toolkit, then: {register}. More: jupyter tfgpu doctor.",
    )


def granted(uuids: Sequence[str], sample: nvml.Sample, engine: EngineInfo, way: GpuWay) -> Grant:
    """Return the grant of units that were leased.

    :raises GpuUnusable: when the engine's CDI specification doesn't have one.
    """
    known = {unit.uuid: unit for unit in units.units(sample)}
    chosen = tuple(known[uuid] for uuid in uuids)
    asked = how(engine, way, chosen[0].name)
    names = [cdi_name(unit.uuid, unit.place, engine.cdi_devices) for unit in chosen] if asked == "cdi" else []
    missing = [unit for unit, name in zip(chosen, names, strict=False) if name is None]
    if missing and engine.cdi_devices:
        raise GpuUnusable(
            f"The engine's CDI specification doesn't have GPU {missing[0].place} ({missing[0].uuid}): it is older than "
            "the machine's present state.",
            "make it anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml.",
        )
    # An engine that tells no devices gets the usual name, and answers for itself.
    full = [name or f"{CDI_KIND}={unit.uuid}" for unit, name in zip(chosen, names, strict=False)]
    return Grant(request(uuids, asked, full), chosen, sample.driver, sample.cuda)


async def _leased(
    config: KernelConfig, judged: Judged, engine: Engine, run: RunFolder, uid: int, report: Report
) -> tuple[Sequence[str], nvml.Sample]:
    """Lease units to a run folder; wait for them where the setting says so."""
    assert judged.sample is not None
    sample, policy = judged.sample, judged.policy
    keeps = kept(config, units.units(sample), lease.held_by(run.path))
    if keeps:
        return [unit.uuid for unit in keeps], sample

    async def attempt(sample: nvml.Sample, since: float) -> Sequence[str]:
        ahead = [waiter for waiter in lease.waiting() if waiter.since < since and waiter.run != str(run.path)]

        def choose(held: Sequence[Holder]) -> Sequence[str]:
            others = [holder for holder in held if holder.run != str(run.path)]
            chosen = pick(config, units.units(sample), others, len(ahead), policy, judged.suits)
            check_share(policy, uid, len(chosen), others)
            return [unit.uuid for unit in chosen]

        await asyncio.to_thread(lease.forget, run.path)
        return await lease.take(choose, config.gpu_sharing, run.path, uid, engine)

    try:
        return await attempt(sample, time.time()), sample
    except GpusTaken:
        if config.when_full != "wait":
            raise
    with lease.queued(run.path, uid):
        since = next(waiter.since for waiter in lease.waiting() if waiter.run == str(run.path))
        told = ""
        while True:
            try:
                return await attempt(sample, since), sample
            except GpusTaken as error:
                place = 1 + sum(waiter.since < since for waiter in lease.waiting())
                text = f"Waiting for a GPU, place {place} in the queue. {error.message}"
                if text != told:
                    report(Step("gpu", text))
                    told = text
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(nvml.NvmlError):  # the next look may find the driver back
                sample = await nvml.sample_async(nvml.PATIENCE_SECONDS)
