"""Have exactly the image that a notebook's lock names: by its digest, and in any case by its layers."""

from __future__ import annotations

from .. import labels
from ..config import KernelConfig, LockedImage
from ..engine.base import Engine, ImageRecord
from ..errors import ImageDiffers, ImageNotFound
from ..progress import Report, Step
from .pull import pull
from .shared import once


async def present(
    reference: str, lock: LockedImage, engine: Engine, config: KernelConfig, report: Report
) -> ImageRecord:
    """Return the engine's image with the lock's layers, under whatever name; pulled where it is not here.

    :param reference: with its digest where the lock has one.
    :raises ImageDiffers: where another image is behind the name.
    :raises ImageNotFound: where it is not here, and not to be had.
    """
    report(Step("resolving", f"Looking for {reference}"))
    named = await engine.image(reference)
    if named is not None and named.layers == lock.layers:
        return named
    alike = next((one for one in await engine.images({}) if one.layers == lock.layers), None)
    if alike is not None:  # such as one that was loaded from an archive, which drops the digest
        return alike
    if named is None:
        if config.pull == "never":
            raise ImageNotFound(
                f"The image {reference}, to which the notebook is locked, is not on this machine, and pull is "
                "set to never.",
                f"pull it: jupyter tfgpu image pull {reference}.",
            )
        named = await once(
            f"pull {engine.address} {reference}",
            lambda tell: pull(reference, engine, config.pull_timeout, tell),
            report,
        )
        if named.layers == lock.layers:
            return named
    raise ImageDiffers(
        f"Another image is behind the name {reference} than the one to which the notebook was locked: "
        f"{_differing(named.layers, lock.layers)}.",
        "get the image from the notebook's author (jupyter tfgpu export NOTEBOOK --image there, jupyter tfgpu "
        "import here), or lock the notebook anew to this one: jupyter tfgpu lock NOTEBOOK.",
    )


async def find_completed(record: ImageRecord, lock: LockedImage, engine: Engine) -> ImageRecord | None:
    """Return the very image, packages included, that was locked: where it was made, or from a bundle."""
    if lock.completed[: len(record.layers)] != record.layers or len(lock.completed) == len(record.layers):
        return None
    for marks in ({labels.IMAGE_KIND: labels.IMAGE_KIND_COMPLETED}, {}):
        for image in await engine.images(marks):
            if image.layers == lock.completed:
                return image
    return None


def _differing(here: tuple[str, ...], locked: tuple[str, ...]) -> str:
    same = next(
        (place for place, (one, two) in enumerate(zip(here, locked, strict=False)) if one != two),
        min(len(here), len(locked)),
    )
    return f"{len(here)} layers here, {len(locked)} locked, equal up to layer {same}"
