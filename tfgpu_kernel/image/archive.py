"""Carry images to a machine without a network, and know there that they are the same.

``docker load`` drops the registry's digest (moby#22011), but the layers' diff_ids travel in the archive
and stay equal. A small file beside the archive says what was saved, so that an archive that was changed on
the way is noticed.

An archive knows its images by their tags alone, as the engine writes them, whatever the names were under which they
were asked for; so the list speaks of what the archive was found to hold.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import imagename
from ..engine.base import Engine, ImageRecord
from ..errors import EngineRefused, ImageNotFound, ImageUnusable
from ..progress import Report, Step
from .facts import identity


@dataclass(frozen=True)
class Saved:
    """One image of an archive, by its name, identity and layers."""

    reference: str
    identity: str
    layers: tuple[str, ...]


def beside(archive: Path) -> Path:
    """Return the path of the file that tells what an archive holds."""
    return archive.with_name(archive.name + ".json")


async def save(references: Sequence[str], engine: Engine, archive: Path, report: Report) -> list[Saved]:
    """Write images to an archive, whole or not at all; return them by the names that they have in it.

    :raises ImageNotFound: when one of them is not here.
    :raises ImageUnusable: when one has no name that an archive could hold, or the engine left it out.
    """
    records: dict[str, ImageRecord] = {}
    for reference in references:
        record = await present(reference, engine)
        records[name_of(reference, record)] = record
    total = sum(record.size_bytes for record in records.values())
    partial = archive.with_name(archive.name + ".part")
    done = 0
    try:
        with partial.open("wb") as file:
            async for chunk in engine.save(list(records)):
                await asyncio.to_thread(file.write, chunk)
                done += len(chunk)
                # The archive is somewhat larger than the images' sizes say.
                report(Step("unpacking", f"Writing {archive}", min(done, total), total))
        saved = _held(await asyncio.to_thread(contents, partial), records)
        partial.replace(archive)
        beside(archive).write_text(json.dumps([vars(one) for one in saved], indent=1) + "\n")
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return saved


async def load(archive: Path, engine: Engine, report: Report) -> list[Saved]:
    """Load an archive, and check that the engine now has exactly what was saved.

    :raises ImageNotFound: when there is no such archive.
    :raises ImageUnusable: when the archive is damaged, or is not what was saved. What was loaded is then
        taken away again.
    """
    if not archive.is_file():
        raise ImageNotFound(
            f"There is no file {archive}.", "name a file that jupyter tfgpu image save wrote."
        )
    claimed = await asyncio.to_thread(contents, archive)
    promised = _promised(archive)
    if promised is not None and promised != _familiar(claimed):
        raise _changed(archive, "what it holds differs from the list beside it.")
    before = {reference: await engine.image(reference) for reference in claimed}
    report(Step("unpacking", f"Loading {archive}"))
    try:
        async for event in engine.load(archive):
            report(Step("unpacking", f"Loading {archive}", event.done, event.total))
    except EngineRefused as error:
        raise _changed(archive, error.details or error.message) from error
    loaded = []
    for reference, layers in claimed.items():
        record = await engine.image(reference)
        if record is None or record.layers != layers:
            if record is not None and before[reference] is None:
                await engine.remove_image(reference)
            raise _changed(archive, f"the layers of {reference} are not those that it names.")
        loaded.append(Saved(reference, identity(record), record.layers))
    return loaded


def contents(archive: Path) -> dict[str, tuple[str, ...]]:
    """Return reference → diff_ids of the images in a ``docker save`` archive.

    :raises ImageUnusable: when it is no such archive.
    """
    try:
        with tarfile.open(archive) as tar:
            manifest = _member(tar, "manifest.json")
            return {
                reference: tuple(_member(tar, image["Config"])["rootfs"]["diff_ids"])
                for image in manifest
                for reference in image.get("RepoTags") or ()
            }
    except (tarfile.TarError, OSError, KeyError, TypeError, ValueError) as error:
        raise ImageUnusable(
            f"The file {archive} is no archive of images, or it is cut short.",
            "write it again: jupyter tfgpu image save.",
            str(error),
        ) from error


def _member(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is missing")
    return json.load(file)


def _promised(archive: Path) -> dict[str, tuple[str, ...]] | None:
    try:
        listed = json.loads(beside(archive).read_text())
        return _familiar({one["reference"]: tuple(one["layers"]) for one in listed})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _changed(archive, f"the list beside it can't be read: {error}") from error


def _familiar(images: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {imagename.tagged(reference): layers for reference, layers in images.items()}


def _held(claimed: Mapping[str, tuple[str, ...]], records: Mapping[str, ImageRecord]) -> list[Saved]:
    """Return what an archive that was just written holds, if that is what was asked for."""
    wanted = {imagename.tagged(name): record for name, record in records.items()}
    if _familiar(claimed) != {name: record.layers for name, record in wanted.items()}:
        raise ImageUnusable(
            "The engine wrote another archive than was asked for, so it is not kept.",
            "try again: an image was given another name, or made anew, meanwhile.",
            f"asked for {', '.join(wanted)}; the archive has {', '.join(claimed) or 'no names'}",
        )
    return [Saved(name, identity(wanted[imagename.tagged(name)]), layers) for name, layers in claimed.items()]


def name_of(reference: str, record: ImageRecord) -> str:
    """Return the name by which an archive can hold an image: the one that was given, or where that is none, a tag.

    :raises ImageUnusable: for an image that has only a digest or an id.
    """
    meant = imagename.tagged(reference)  # podman has a place of its own for what no registry had: localhost/
    same = [tag for tag in record.tags if imagename.tagged(tag) in (meant, f"localhost/{meant}")]
    named = [*same, *(tag for tag in record.tags if tag != "<none>:<none>")]
    if named:
        return named[0]
    new = imagename.repository(reference) if "@" in reference else "mine"
    raise ImageUnusable(
        f"The image {reference} has no name here, only a digest or an id, and an archive keeps neither.",
        f"give it one (docker tag {reference} {new}:carried), and save that.",
    )


def _changed(archive: Path, why: str) -> ImageUnusable:
    return ImageUnusable(
        f"The archive {archive} is not what was saved, so it is not used.",
        "carry it over again from where it was saved, with the .json file beside it.",
        why,
    )


async def present(reference: str, engine: Engine) -> ImageRecord:
    """Return the engine's image of that name.

    :raises ImageNotFound: when it is not here.
    """
    record = await engine.image(reference)
    if record is None:
        raise ImageNotFound(
            f"The image {reference} is not on this machine.", "see what is: jupyter tfgpu image list."
        )
    return record
