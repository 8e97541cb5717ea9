"""The images on this machine that are of use to kernels, and what may be thrown away of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .. import labels
from ..engine.base import ContainerRecord, Engine, ImageRecord


@dataclass(frozen=True)
class Listed:
    """An image as ``jupyter tfgpu image list`` shows it."""

    reference: str
    kind: str
    """``completed`` or ``built`` for ours, else ``pulled`` (from a registry) or ``local``."""
    record: ImageRecord
    used_by: int
    """How many containers there are of it."""


async def images(engine: Engine) -> list[Listed]:
    """List the engine's images that have a name, ours and others'."""
    containers = await engine.list({})
    found = [
        Listed(tag, _kind(record), record, _used(record, containers))
        for record in await engine.images({})
        for tag in record.tags
        if tag != "<none>:<none>"
    ]
    return sorted(found, key=lambda one: one.reference)


def prunable(found: Sequence[Listed], *, built: bool, kept: Collection[str] = ()) -> list[Listed]:
    """Return what can go: images of ours that no container uses, and that nothing else needs.

    Completed images can be made again at any time; built ones only go when asked for.

    :param kept: identities or names of images that must stay, such as those in locks.
    """
    kinds = {labels.IMAGE_KIND_COMPLETED, *([labels.IMAGE_KIND_BUILT] if built else [])}
    return [
        one
        for one in found
        if one.kind in kinds and not one.used_by and not {one.reference, one.record.id} & set(kept)
    ]


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


def _used(record: ImageRecord, containers: Sequence[ContainerRecord]) -> int:
    names = {record.id, record.id.removeprefix("sha256:")[:12], *record.tags}
    return sum(container.image in names for container in containers)
