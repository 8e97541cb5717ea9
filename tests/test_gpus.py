"""Which GPUs a start is judged by, and which it is granted in the end: NVML's samples are the tests' own."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tfgpu_kernel import gpus, launch, lease
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import Engine, EngineInfo
from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import ConfigError, GpusTaken, GpuUnusable, ImageUnusable
from tfgpu_kernel.gpu import nvml, units
from tfgpu_kernel.gpu.nvml import Gpu, Memory, NvmlError, Sample
from tfgpu_kernel.image import choice, presets
from tfgpu_kernel.image.hardware import Hardware
from tfgpu_kernel.image.ready import ReadyImage
from tfgpu_kernel.lease import Holder
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.policy import Policy
from tfgpu_kernel.progress import Step
from tfgpu_kernel.runfolder import RunFolder

GIB = 2**30
NO_ENGINE = cast(Engine, None)
INFO = EngineInfo("28.5", "1.51", "linux", "x86_64", "here", "Debian", ("runc", "nvidia"), False, False, "/d", 2, GIB)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep leases in a folder of the test's own."""
    monkeypatch.setattr(lease, "FOLDER", tmp_path / "leases")
    lease.FOLDER.mkdir()
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return the run folder of a kernel that restarts."""
    return RunFolder(tmp_path / "run")


def gpu(index: int, name: str, capability: tuple[int, int], used: int = 0, **changes: Any) -> Gpu:
    """Return a GPU of 24 GiB, so many of them used."""
    made = Gpu(index, f"GPU-{index}", name, capability, Memory(24 * GIB, used * GIB, (24 - used) * GIB, 0), 0,
               processes={})  # fmt: skip
    return replace(made, **changes)


def machine(*gpus: Gpu) -> Sample:
    """Return a sample of these GPUs."""
    return Sample("580.95", gpus, cuda=(13, 0))


NEW, OLD = gpu(0, "NVIDIA RTX A5000", (8, 6)), gpu(1, "NVIDIA TITAN RTX", (7, 5))


def shows(monkeypatch: pytest.MonkeyPatch, sample: Sample | NvmlError) -> None:
    """Let NVML answer so from now on."""

    async def answer(*_: float) -> Sample:
        if isinstance(sample, NvmlError):
            raise sample
        return sample

    monkeypatch.setattr(nvml, "sample_async", answer)


def hold(index: int, run: RunFolder, **settings: Any) -> None:
    """Let a kernel hold a GPU."""
    sharing = settings.get("gpu_sharing", "shared")
    lease._write(lease._LEASE, Holder(f"GPU-{index}", sharing, 0, str(Owner.current()), str(run.path), 1.0))


def unheard(step: Step) -> None:
    """Tell nobody."""


def judged(run: RunFolder | None = None, **settings: Any) -> gpus.Judged:
    """Judge a start."""
    return asyncio.run(gpus.judge(KernelConfig(**settings), Policy(), INFO, unheard, run))


def granted(before: gpus.Judged, run: RunFolder, **settings: Any) -> gpus.Grant:
    """Grant what was judged an hour ago."""
    old = replace(before, taken_at=time.monotonic() - 3600)
    return asyncio.run(gpus.grant(old, KernelConfig(**settings), NO_ENGINE, INFO, run, 0, unheard))


@pytest.mark.parametrize("sharing", ["shared", "exclusive"])
def test_a_restart_is_judged_by_the_gpu_that_it_keeps(
    monkeypatch: pytest.MonkeyPatch, run: RunFolder, sharing: str
) -> None:
    """The kernel's own lease, and its own use of memory, send it to no other GPU, so auto chooses the same image."""
    shows(monkeypatch, machine(NEW, OLD))
    first = judged(gpu_sharing=sharing)
    hold(0, run, gpu_sharing=sharing)
    shows(monkeypatch, machine(gpu(0, NEW.name, (8, 6), 20, processes={os.getpid(): 20 * GIB}), OLD))
    again = judged(run, gpu_sharing=sharing)
    assert [[unit.uuid for unit in one.likely] for one in (first, again)] == [["GPU-0"]] * 2
    images = [
        choice.choose("auto", Hardware(gpus=tuple((u.name, u.compute_capability) for u in one.likely), cuda=one.cuda))
        for one in (first, again)
    ]
    assert images[0] == images[1]
    assert asyncio.run(gpus.grant(again, KernelConfig(), NO_ENGINE, INFO, run, 0, unheard)).uuids == ("GPU-0",)


def test_a_restart_that_keeps_nothing_has_no_rival_in_itself(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """Moved, or with another count, a kernel chooses as if its own leases were gone already."""
    shows(monkeypatch, machine(NEW, OLD))
    hold(0, run)
    assert [unit.uuid for unit in judged(run, gpus=("1",)).likely] == ["GPU-1"]
    assert [unit.uuid for unit in judged(run, gpus=2, gpu_sharing="exclusive").likely] == ["GPU-0", "GPU-1"]
    shows(monkeypatch, machine(OLD))
    assert [unit.uuid for unit in judged(run).likely] == ["GPU-1"]


def test_gpus_are_granted_as_they_are_after_a_pull(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """A GPU on which somebody computes since the start was judged is not given out as exclusive."""
    shows(monkeypatch, machine(NEW, OLD))
    before = judged(gpu_sharing="exclusive")
    busy = replace(NEW, processes={os.getpid(): GIB})
    shows(monkeypatch, machine(busy))
    with pytest.raises(GpusTaken, match=f"process {os.getpid()}"):
        granted(before, run, gpu_sharing="exclusive")
    assert not granted(before, run, gpus=1).cpu_because
    lease.forget(run.path)
    asked = replace(before, taken_at=time.monotonic())
    config = KernelConfig(gpu_sharing="exclusive")
    fresh = asyncio.run(gpus.grant(asked, replace(config, gpu_sharing="shared"), NO_ENGINE, INFO, run, 0, unheard))
    assert fresh.uuids == ("GPU-0",), "what was looked at a moment ago is not asked for again"


def test_a_driver_that_goes_during_a_pull_is_told(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """Where the driver is gone by the time of the lease, the start fails by that cause, or runs on the CPU as set."""
    shows(monkeypatch, machine(NEW))
    before = judged()
    shows(monkeypatch, NvmlError("its kernel driver is not loaded", nvml.DRIVER_NOT_LOADED))
    with pytest.raises(GpuUnusable, match="driver is not loaded"):
        granted(before, run)
    grant = granted(before, run, gpu_required=False)
    assert not grant.uuids
    assert "driver is not loaded" in grant.cpu_because
    assert not lease.holders()


def test_gpus_that_the_image_has_code_for_come_first(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """When the GPU that the image was chosen for is fuller after the pull, it comes before one that can't run it."""
    shows(monkeypatch, machine(NEW, OLD))
    before = replace(judged(), suits=presets.suits("tf2.1-gpu"))
    shows(monkeypatch, machine(NEW, replace(OLD, memory=Memory(24 * GIB, 20 * GIB, 4 * GIB, 0))))
    assert granted(before, run).uuids == ("GPU-1",)
    lease.forget(run.path)
    assert granted(replace(before, suits=presets.suits("some/image:1")), run).uuids == ("GPU-0",)
    assert [unit.place for unit in units.units(machine(NEW, OLD))] == ["0", "1"]


def test_a_compute_mode_counts(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """Nobody gets a GPU on which nobody may compute; one for a single process is free alone, also for who shares."""
    closed, single = replace(NEW, compute_mode="prohibited"), replace(OLD, compute_mode="exclusive-process")
    shows(monkeypatch, machine(closed, single))
    before = judged()
    assert [unit.uuid for unit in before.likely] == ["GPU-1"]
    with pytest.raises(ConfigError, match="0, which this machine hasn't, or on which nobody may compute"):
        judged(gpus=("0",))
    assert granted(before, run).uuids == ("GPU-1",)
    second = RunFolder(run.path.with_name("second"))
    with pytest.raises(GpusTaken, match="one process at a time"):
        granted(before, second)
    lease.forget(run.path)
    shows(monkeypatch, machine(closed, replace(single, processes={os.getpid(): GIB})))
    with pytest.raises(GpusTaken, match=f"process {os.getpid()}"):
        granted(before, second)
    assert judged().likely, "who waits for it is judged all the same"
    shows(monkeypatch, machine(closed))
    with pytest.raises(GpuUnusable, match="compute mode Prohibited"):
        judged()


def test_exclusive_where_the_driver_names_no_processes(monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    """Then a GPU counts as free by its memory, and that is said."""
    shows(monkeypatch, machine(gpu(0, "A", (8, 0), 9, processes=None), gpu(1, "A", (8, 0), 1, processes=None)))
    steps: list[Step] = []

    async def unmarked(*_: Any) -> None:
        """Mark nothing in an engine: there is none."""

    monkeypatch.setattr(lease, "_mark", unmarked)
    config = KernelConfig(gpu_sharing="exclusive")
    before = judged(gpu_sharing="exclusive")
    assert asyncio.run(gpus.grant(before, config, NO_ENGINE, INFO, run, 0, steps.append)).uuids == ("GPU-1",)
    assert [step.text for step in steps if step.notice] == [
        "The driver doesn't say who computes on GPU 1; nobody seems to, by its memory."
    ]
    with pytest.raises(GpusTaken, match=r"9\.0 GiB of its memory are in use, and the driver doesn't say by whom"):
        granted(before, run, gpu_sharing="exclusive", gpus=("0",))


def cdi(*names: str) -> EngineInfo:
    """Return an engine that has these NVIDIA devices by CDI, and no runtime of NVIDIA's."""
    return replace(INFO, runtimes=("runc",), cdi=True, cdi_devices=tuple(f"nvidia.com/gpu={name}" for name in names))


def test_all_is_a_device_where_there_is_no_other() -> None:
    """WSL2's CDI specification has one device for all GPUs: that is asked for, and CUDA is told which are leased."""
    sample = machine(NEW, OLD)
    one = gpus.granted(["GPU-1"], sample, cdi("all"), "auto").request
    assert one.host_config == {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}
    assert one.env == {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    two = gpus.granted(["GPU-0", "GPU-1"], sample, cdi("all"), "auto").request
    assert two.host_config == one.host_config
    assert two.env["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    usual = gpus.granted(["GPU-1"], sample, cdi("0", "1", "all"), "auto").request
    assert usual.host_config == {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1"]}]}
    assert usual.env == {"NVIDIA_VISIBLE_DEVICES": "void"}
    with pytest.raises(GpuUnusable, match="doesn't have GPU 1"):
        gpus.granted(["GPU-1"], sample, cdi("0", "all"), "auto")


def test_podman_is_registered_by_cdi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where podman has no NVIDIA device the remedy is a CDI specification, not Docker's runtime."""
    monkeypatch.setattr(gpus, "HOOKS", ())
    podman = replace(INFO, names_localhost=True)
    for engine, remedy in ((INFO, "--runtime=docker"), (podman, "nvidia-ctk cdi generate")):
        with pytest.raises(GpuUnusable) as caught:
            gpus.how(replace(engine, runtimes=("crun", "runc")), "auto", "A100")
        assert remedy in caught.value.remedy


def test_a_restart_asks_for_the_image_of_the_gpu_that_it_keeps(
    monkeypatch: pytest.MonkeyPatch, run: RunFolder, tmp_path: Path
) -> None:
    """From launch on: the request's run folder reaches the judgement, and the image's choice follows from it."""
    asked: list[str] = []

    async def info(engine: DockerEngine) -> EngineInfo:
        return INFO

    async def ensure(reference: str, *_: Any) -> ReadyImage:
        asked.append(reference)
        raise ImageUnusable("It is enough to know which.", "")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(DockerEngine, "info", info)
    monkeypatch.setattr(launch, "ensure", ensure)
    shows(monkeypatch, machine(gpu(0, NEW.name, (8, 6), 20), OLD))
    hold(0, run)
    for followed in (run, None):
        request = launch.Request("k", "tfgpu", str(tmp_path), str(tmp_path), {}, run=followed)
        with pytest.raises(ImageUnusable):
            asyncio.run(launch.prepare(request, KernelConfig(), DockerEngine("unix:///nowhere"), unheard))
    assert asked == ["tensorflow/tensorflow:2.17.0-gpu", "tensorflow/tensorflow:latest-gpu-py3"]
