"""The labels on our containers and images.

Docker can't change a label later, so a label holds only what never changes; what changes (kernel id,
notebook, state) is in the run folder's state file (:mod:`tfgpu_kernel.runfolder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "io.tfgpu."
KIND: Final = PREFIX + "kind"
"""What the container is: one of the ``KIND_…`` values."""
UID: Final = PREFIX + "uid"
"""Numeric user id of the process that made the container."""
OWNER: Final = PREFIX + "owner"
"""The process that made the container, see :class:`tfgpu_kernel.owner.Owner`; the run folder knows who took it
over since."""
RUN: Final = PREFIX + "run"
"""Path of the kernel's run folder on the host."""
IMAGE: Final = PREFIX + "image"
"""The image reference that the user asked for."""
CONFIG: Final = PREFIX + "config"
"""Hash of the configuration, see :meth:`tfgpu_kernel.config.KernelConfig.fingerprint`."""
GPUS: Final = PREFIX + "gpus"
"""Comma-separated UUIDs of the GPUs granted, or empty."""

# An image's labels come down to its containers, so these have names of their own.
IMAGE_KIND: Final = PREFIX + "image.kind"
"""How we made an image: one of the ``IMAGE_KIND_…`` values."""
IMAGE_BASE: Final = PREFIX + "image.base"
"""Identity of the image that was completed, see :func:`tfgpu_kernel.image.facts.identity`."""
IMAGE_BASE_NAME: Final = PREFIX + "image.base-name"
"""The reference under which that image was asked for first."""
IMAGE_PLAN: Final = PREFIX + "image.plan"
"""What was added, see :meth:`tfgpu_kernel.image.plan.Plan.key`; or what an image was built from."""
IMAGE_SYSTEM: Final = PREFIX + "image.system-packages"
"""What apt was told to add, in the order of the settings."""
IMAGE_PACKAGES: Final = PREFIX + "image.packages"
"""What a built image has: ``name==version`` of every Python package, separated by blanks."""

IMAGE_KIND_COMPLETED: Final = "completed"
IMAGE_KIND_BUILT: Final = "built"

KIND_KERNEL: Final = "kernel"
KIND_LEASE: Final = "lease"
KIND_PROBE: Final = "probe"
KIND_WORKSHOP: Final = "workshop"


@dataclass(frozen=True)
class KernelLabels:
    """What the labels of a kernel's container say."""

    uid: int
    owner: str
    run: str
    image: str
    config: str
    gpus: tuple[str, ...] = ()

    def to_docker(self) -> dict[str, str]:
        """Return the labels as Docker takes them."""
        return {
            KIND: KIND_KERNEL,
            UID: str(self.uid),
            OWNER: self.owner,
            RUN: self.run,
            IMAGE: self.image,
            CONFIG: self.config,
            GPUS: ",".join(self.gpus),
        }

    @classmethod
    def from_docker(cls, labels: Mapping[str, str]) -> KernelLabels | None:
        """Read a container's labels, or None where they are not, or not all, ours.

        A stranger's container with some of our labels must never be taken for one of ours: a sweep
        removes what this returns.
        """
        if labels.get(KIND) != KIND_KERNEL:
            return None
        try:
            gpus = tuple(gpu for gpu in labels[GPUS].split(",") if gpu)
            return cls(
                int(labels[UID]), labels[OWNER], labels[RUN], labels[IMAGE], labels[CONFIG], gpus
            )
        except (KeyError, ValueError):
            return None
