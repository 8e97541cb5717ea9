"""Kernels whose server is gone, as plain tests make them: their run folders, and an engine that has the containers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.connection import Connection
from tfgpu_kernel.engine.base import ContainerRecord, Exit, ImageRecord
from tfgpu_kernel.gpu.request import NO_GPU
from tfgpu_kernel.gpus import Grant
from tfgpu_kernel.handover import Handover
from tfgpu_kernel.identity import Identity
from tfgpu_kernel.image.ready import ReadyImage
from tfgpu_kernel.labels import KernelLabels
from tfgpu_kernel.mounts import Mounts
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.runfolder import KernelState, RunFolder

GONE = replace(Owner.current(), started=0)
"""A process of this boot that has ended."""


def kernel(folder: Path, kernel_id: str, root: Path, owner: Owner = GONE) -> RunFolder:
    """Make the run folder of a kernel that runs in the container ``box-<id>``, of a server with this root folder."""
    run = RunFolder(folder)
    run.io.mkdir(parents=True)
    (folder / "owner").write_text(str(owner))
    run.note_engine("unix:///a")
    box = f"box-{kernel_id}"
    run.write_state(KernelState(kernel_id, "tfgpu", str(root / f"{kernel_id}.ipynb"), "running", box, 0.0))
    record = ImageRecord("sha256:1", (), (), (), "amd64", "linux", 1, "", (), (), {})
    image = ReadyImage("tf", record, "sha256:1", "/usr/bin/python3", "", "")
    identity = Identity(0, 0, (), "root", os.geteuid(), os.getegid())
    config = KernelConfig
    Handover(
        kernel_id, os.path.realpath(root), str(root), {}, box, Connection(str(run.io)), identity, image,
        Mounts((), ()), Grant(NO_GPU), 1.0, config.grace_busy, config.grace_idle,
    ).write(run)  # fmt: skip
    return run


class Engine:
    """Has the containers of the run folders that it is given."""

    address = "unix:///a"

    def __init__(self, *runs: RunFolder, state: str = "running", end: Exit | None = None) -> None:
        self.boxes = [_box(run, state) for run in runs]
        self.end = end

    async def list(self, labels: Mapping[str, str]) -> Sequence[ContainerRecord]:
        """Return the containers."""
        return self.boxes

    async def exit_status(self, container: str) -> Exit | None:
        """Return how all of them ended."""
        return self.end

    async def logs(self, container: str, tail: int) -> str:
        """Return nothing."""
        return ""

    def watch(self, container: str) -> Future[Exit]:
        """Return an end that never comes."""
        return Future()

    def unwatch(self, container: str) -> None:
        """Do nothing."""


def _box(run: RunFolder, state: str) -> ContainerRecord:
    known = run.state()
    assert known is not None
    labels = KernelLabels(os.geteuid(), str(run.owner()), str(run.path), "tf", "c").to_docker()
    return ContainerRecord(known.container, f"tfgpu-{run.path.name}", "tf", state, labels, 0.0)
