"""The images on this machine that are of use to kernels, and what may be thrown away of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import labels
from ..engine.base import ContainerRecord, Engine, ImageRecord
from . import reserved


@dataclass(frozen=True)
class Listed:
    """An image as ``jupyter tfgpu image list`` shows it."""

    reference: str
    kind: str
    """``completed`` or ``built`` for ours, else ``pulled`` (from a registry) or ``local``."""
    record: ImageRecord
    used_by: int
    """How many containers there are of it, those of kernels that wait to be taken included."""
    locked_by: tuple[str, ...] = ()
    """The notebooks whose locks need it."""

    @property
    def why_kept(self) -> str:
        """Why it must not go; empty where it may."""
        if self.used_by:
            return "a container uses it" if self.used_by == 1 else f"{self.used_by} containers use it"
        return f"the lock of {self.locked_by[0]} needs it" if self.locked_by else ""


async def images(engine: Engine) -> list[Listed]:
    """List the engine's images that have a name, ours and others'."""
    containers = await engine.list({})
    found = [
        Listed(tag, _kind(record), record, used(record, containers), reserved.needed_by(record))
        for record in await engine.images({})
        for tag in record.tags
        if tag != "<none>:<none>"
    ]
    return sorted(found, key=lambda one: one.reference)


def ours(found: Sequence[Listed], *, built: bool) -> list[Listed]:
    """Return the images that we made; those that were built, which take long to make again, only when asked for."""
    kinds = {labels.IMAGE_KIND_COMPLETED, *([labels.IMAGE_KIND_BUILT] if built else [])}
    return [one for one in found if one.kind in kinds]


def prunable(found: Sequence[Listed], *, built: bool) -> list[Listed]:
    """Return what can go: images of ours that no container uses, and that no lock needs."""
    return [one for one in ours(found, built=built) if not one.why_kept]


def freed_bytes(gone: Sequence[Listed], found: Sequence[Listed]) -> int:
    """Return about how much removing images frees: what they have more than their base that stays."""
    stays = [one.record for one in found if one not in gone]
    total = 0
    for one in gone:
        bases = [r.size_bytes for r in stays if r.layers and one.record.layers[: len(r.layers)] == r.layers]
        total += one.record.size_bytes - max(bases, default=0)
    return max(0, total)


def _kind(record: ImageRecord) -> str:
    return record.labels.get(labels.IMAGE_KIND) or ("pulled" if record.digests else "local")


def used(record: ImageRecord, containers: Sequence[ContainerRecord]) -> int:
    """Return how many of the containers are made of an image."""
    names = {record.id, record.id.removeprefix("sha256:")[:12], *record.tags}
    return sum(container.image in names for container in containers)
