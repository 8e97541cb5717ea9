"""Have the image: use it if it is here, pull it if not, complete it if it lacks ipykernel."""

from __future__ import annotations

import asyncio
import io
import tarfile
from typing import Final

from ..config import KernelConfig
from ..engine.base import Engine, ImageRecord
from ..errors import ImageNotFound, RegistryUnreachable
from ..progress import Report, Step
from .ready import ReadyImage

_known: dict[str, ReadyImage] = {}


async def ensure(reference: str, engine: Engine, config: KernelConfig, report: Report) -> ReadyImage:
    """Return an image in which a kernel can run.

    :raises ImageNotFound: when it is neither here nor at its registry.
    :raises RegistryUnreachable: when it is not here, and the registry gives no answer.
    """
    report(Step("resolving", f"Looking for {reference}"))
    record = await engine.image(reference) if config.pull != "always" else None
    if record is None:
        if config.pull == "never":
            raise ImageNotFound(
                f"The image {reference} is not on this machine, and pull is set to never.",
                f"pull it (jupyter tfgpu image pull {reference}), or set pull to missing.",
            )
        record = await pulled(reference, engine, config.pull_timeout, report)
    if record.id not in _known:
        _known[record.id] = await inspected(reference, record, engine)
    return _known[record.id]


async def pulled(reference: str, engine: Engine, seconds: float, report: Report) -> ImageRecord:
    """Pull an image, with progress."""
    report(Step("downloading", f"Pulling {reference}"))
    try:
        async with asyncio.timeout(seconds):
            async for event in engine.pull(reference):
                report(Step("downloading", f"{event.layer} {event.status}", event.done, event.total))
    except TimeoutError as error:
        raise RegistryUnreachable(
            f"Pulling {reference} took longer than {seconds:g} s.", "raise pull_timeout, and try again."
        ) from error
    record = await engine.image(reference)
    assert record is not None
    return record


async def inspected(reference: str, record: ImageRecord, engine: Engine) -> ReadyImage:
    """Read what a start needs from the image."""
    container = await engine.create({"Image": record.id, "Cmd": ["true"], "Entrypoint": []})
    try:
        passwd, group = [
            _only_file(await engine.get_archive(container, path)) for path in ("/etc/passwd", "/etc/group")
        ]
    finally:
        await engine.remove(container)
    return ReadyImage(reference, record, record.digest, "python3", passwd, group)


def _only_file(archive: bytes) -> str:
    if not archive:
        return ""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(tar.getmembers()[0])
        return member.read().decode(errors="replace") if member else ""
