"""What goes along with an image that is carried to a machine without a network: the images completed for kernels.

There, pip can't add what the image lacks. A completed image is found again by what it was made from and how, both of
which an archive keeps.
"""

from __future__ import annotations

from .. import labels
from ..config import KernelConfig
from ..engine.base import Engine, ImageRecord
from ..progress import Report
from . import archive, ensure, plan
from .facts import identity


async def along(reference: str, engine: Engine, report: Report) -> list[str]:
    """Return the names of all images that were completed from this one; the usual one is made where there is none.

    :raises ImageNotFound: when the image is not here.
    :raises ImageUnusable: when no kernel can run in it at all.
    :raises ImageBuildFailed: when adding what it lacks failed.
    """
    record = await archive.present(reference, engine)
    facts = await ensure.known(record, reference, engine, report)
    found = await _completed(record, engine)
    if not found and plan.complete(facts, reference) is not None:
        ready = await ensure.completed(record, reference, facts, engine, KernelConfig(), report)
        found = [ready.record]
    return [image.tags[0] for image in found]


async def _completed(record: ImageRecord, engine: Engine) -> list[ImageRecord]:
    marks = {labels.IMAGE_KIND: labels.IMAGE_KIND_COMPLETED, labels.IMAGE_BASE: identity(record)}
    return [
        image
        for image in await engine.images(marks)
        if image.tags and image.layers[: len(record.layers)] == record.layers
    ]
