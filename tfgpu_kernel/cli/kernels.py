"""This user's kernels, for the verbs that show or steer them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import autopsy, handover, sweep, waiting
from ..engine.base import ContainerRecord, Engine
from ..errors import KernelNotFound
from ..labels import KIND, KIND_KERNEL, UID, KernelLabels
from ..owner import Owner
from ..runfolder import KernelState, RunFolder
from ..waiting import Waiting


@dataclass(frozen=True)
class Known:
    """A kernel's container, what its labels say, and what its run folder says."""

    container: ContainerRecord
    labels: KernelLabels
    state: KernelState | None

    @property
    def owned(self) -> bool:
        """Whether the process that it belongs to lives."""
        owner = _owner(self.labels)
        return owner is not None and owner.alive

    @property
    def run(self) -> RunFolder:
        """The kernel's run folder."""
        return RunFolder.named(self.labels.run)

    @property
    def ready(self) -> Waiting | None:
        """What it is where it waits, finished, for a start that wants such a one; None where it doesn't."""
        return waiting.read(self.run)

    @property
    def grace_seconds(self) -> float | None:
        """For how long sweeps spare the kernel, whose server is gone; None where it has one, or has ended."""
        if self.owned or not self.run.has_state or self.container.state != "running":
            return None
        return sweep.seconds_left(self.run)

    @property
    def adoptable(self) -> bool:
        """Whether a next server could take the kernel up: what the last one left for it can be read."""
        return self.state is not None and handover.read(self.run) is not None

    @property
    def kernel_id(self) -> str:
        """Jupyter's id of the kernel; empty while it is being started."""
        return self.state.kernel_id if self.state else ""


def _owner(labels: KernelLabels) -> Owner | None:
    """Return whom a kernel belongs to: the folder knows who took it over, its label who made it."""
    return RunFolder.named(labels.run).owner() or Owner.parse(labels.owner)


async def known(engine: Engine) -> Sequence[Known]:
    """Return this user's kernels, oldest first."""
    found = await engine.list({KIND: KIND_KERNEL, UID: str(os.geteuid())})
    kernels = []
    for record in sorted(found, key=lambda record: record.created):
        labels = KernelLabels.from_docker(record.labels)
        if labels is None:
            continue
        state = RunFolder.named(labels.run).state()
        if state is not None and not state.death and record.state in {"exited", "dead"}:
            # It ended while no server was there to say why.
            account = await autopsy.of_container(record.id, labels.image, bool(labels.gpus), _owner(labels), engine)
            state = replace(state, death=account.message if account else "")
        kernels.append(Known(record, labels, state))
    return kernels


async def one(engine: Engine, name: str) -> Known:
    """Return the kernel whose id, container id or container name begins with ``name``.

    :raises KernelNotFound: when there is none, or more than one.
    """
    kernels = await known(engine)
    found = [
        kernel
        for kernel in kernels
        if any(
            text.startswith(name)
            for text in (kernel.kernel_id, kernel.container.id, kernel.container.name)
            if text
        )
    ]
    if len(found) != 1:
        what = "No kernel" if not found else f"More than one kernel ({len(found)})"
        raise KernelNotFound(
            f"{what} of yours has an id or container name that begins with {name!r}.",
            "choose one from jupyter tfgpu ps.",
        )
    return found[0]
