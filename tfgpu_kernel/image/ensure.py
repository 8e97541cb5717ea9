"""Have the image: use it if it is here, pull it if not, complete it if it lacks what a kernel needs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

from .. import disk, labels
from ..config import KernelConfig
from ..engine.base import Engine, ImageRecord
from ..errors import ImageBuildFailed, ImageNotFound, RegistryUnreachable
from ..progress import Report, Step
from . import debian, lent_pip, locked, plan, unbuilt, workshop
from .choice import suiting
from .facts import Facts, identity
from .foresight import foresee
from .hardware import Hardware
from .presets import BUILT, named
from .pull import pull
from .ready import ReadyImage
from .shared import once

_CLEAN_UP_SECONDS: Final = 15.0
"""Who gives up first takes away what it had begun."""


async def ensure(
    reference: str, engine: Engine, config: KernelConfig, report: Report, hardware: Hardware | None = None
) -> ReadyImage:
    """Return an image in which a kernel can run.

    :param hardware: what the machine is, for warnings before the wait; None for no warnings.
    :raises ImageNotFound: when it is neither here nor at its registry.
    :raises RegistryUnreachable: when it is not here, and the registry gives no usable answer.
    :raises ImageUnusable: when no kernel can run in it at all.
    :raises ImageBuildFailed: when adding what it lacks failed.
    """
    machine = hardware or Hardware()
    found = await engine.image(reference) if _will_do(reference, config) else None
    warnings = () if found else warned(foresee(reference, machine), report, machine)
    if config.locked is not None:
        record = await locked.present(reference, config.locked, engine, config, report)
    else:
        record = found or await present(reference, engine, config, report)
    facts = await known(record, reference, engine, report)
    if not warnings:  # what an image is tells more than its name
        warnings = warned(foresee(reference, machine, facts, here=True), report, machine)
    return replace(await completed(record, reference, facts, engine, config, report), notices=warnings)


def warned(sentences: tuple[str, ...], report: Report, machine: Hardware) -> tuple[str, ...]:
    """Tell each sentence, with the preset where it names one, and return them."""
    instead = suiting(machine).name
    for sentence in sentences:
        preset = instead if f"image = {instead})" in sentence else ""
        report(Step("resolving", sentence, notice=True, preset=preset))
    return sentences


async def present(reference: str, engine: Engine, config: KernelConfig, report: Report) -> ImageRecord:
    """Return the engine's image of that name, pulled if the configuration says so."""
    report(Step("resolving", f"Looking for {reference}"))
    if _will_do(reference, config):
        record = await engine.image(reference)
        if record is not None:
            return record
    if made_here(reference):
        raise not_built(reference)
    if config.pull == "never":
        raise ImageNotFound(
            f"The image {reference} is not on this machine, and pull is set to never.",
            f"pull it (jupyter tfgpu image pull {reference}), or set pull to missing.",
        )
    shared = once(
        f"pull {engine.address} {reference}",
        lambda tell: pull(reference, engine, config.pull_timeout, tell),
        report,
    )
    return await _no_longer(config.pull_timeout, reference, shared)


def _will_do(reference: str, config: KernelConfig) -> bool:
    """Return whether an image that is here will do, so that its registry need not be asked for a newer one."""
    return config.pull != "always" or made_here(reference)


def made_here(reference: str) -> bool:
    """Return whether it is an image that no registry has, so that no setting makes us ask one."""
    return reference.startswith((BUILT, OURS))


def not_built(reference: str) -> ImageNotFound:
    """Return the error for an image that is made here, and hasn't been."""
    preset = named(reference)
    return ImageNotFound(
        f"The image {reference} is built on the machine itself, and has not been built yet.",
        unbuilt.remedy(preset, debian.host_release())
        if preset is not None
        else "build or complete it again, or name another image.",
    )


async def completed(
    record: ImageRecord, reference: str, facts: Facts, engine: Engine, config: KernelConfig, report: Report
) -> ReadyImage:
    """Return the image itself, or one derived from it that has what a kernel needs besides."""
    lock = config.locked
    if lock is not None and lock.added:
        wanted: plan.Plan | None = plan.locked(facts, reference, lock.added, config.system_packages)
    else:
        wanted = plan.complete(
            facts, reference, config.packages, extras=config.extras, system_packages=config.system_packages
        )
    if wanted is None:
        return _ready(reference, record, record, facts)
    derived = await find_derived(record, reference, wanted, engine)
    if derived is None and lock is not None:
        derived = await locked.find_completed(record, lock, engine)
    seconds = config.pull_timeout
    if derived is None:
        shared = once(
            f"complete {engine.address} {identity(record)} {wanted.key()}",
            lambda tell: _within(seconds, reference, derive(record, reference, facts, wanted, engine, tell)),
            report,
        )
        derived = await _no_longer(seconds, reference, shared)
    return _ready(reference, record, derived, await known(derived, reference, engine, report))


async def _within(seconds: float, reference: str, making: Coroutine[None, None, ImageRecord]) -> ImageRecord:
    """Wait for an image to be completed, but not longer than a pull might take."""
    try:
        return await asyncio.wait_for(making, seconds)
    except asyncio.TimeoutError:
        raise ImageBuildFailed(
            f"Adding packages to {reference} took longer than pull_timeout ({seconds:g} s).",
            "see whether pip reaches its index from this machine (pip download tqdm), or raise pull_timeout.",
        ) from None


async def _no_longer(seconds: float, reference: str, shared: Coroutine[None, None, ImageRecord]) -> ImageRecord:
    """Wait for work that others may do; it has a limit of its own, which only who waits for somebody else exceeds."""
    try:
        return await asyncio.wait_for(shared, seconds + _CLEAN_UP_SECONDS)
    except asyncio.TimeoutError:
        raise RegistryUnreachable(
            f"Another program has been getting {reference} for longer than pull_timeout ({seconds:g} s).",
            "see what that one waits for (jupyter tfgpu image pull shows its progress), or raise pull_timeout.",
        ) from None


async def known(record: ImageRecord, reference: str, engine: Engine, report: Report) -> Facts:
    """Return an image's facts; each image is asked once, and the answer is kept in the user's cache."""
    with contextlib.suppress(OSError, ValueError):
        return Facts.from_json(await asyncio.to_thread(_kept(record).read_text))
    report(Step("resolving", f"Looking at what {reference} has"))
    facts = await workshop.look(record, reference, engine)
    await remember(record, facts)
    return facts


async def remember(record: ImageRecord, facts: Facts) -> None:
    """Keep an image's facts in the user's cache."""
    with contextlib.suppress(OSError):  # a cache that can't be written costs a second at each start
        await asyncio.to_thread(_keep, _kept(record), facts.to_json())


async def find_derived(record: ImageRecord, reference: str, wanted: plan.Plan, engine: Engine) -> ImageRecord | None:
    """Return the image that was made from this one by this plan, if there is one."""
    marks = {
        labels.IMAGE_KIND: labels.IMAGE_KIND_COMPLETED,
        labels.IMAGE_BASE: identity(record),
        labels.IMAGE_PLAN: wanted.key(),
    }
    # By its name it is found at once; a list takes an engine with many images long, and finds it under any name.
    named = await engine.image(derived_tag(record, reference, wanted))
    found = [named] if named is not None and marks.items() <= named.labels.items() else await engine.images(marks)
    # The label alone could be anybody's: the layers must be the image's own with some on top.
    return next((image for image in found if image.layers[: len(record.layers)] == record.layers), None)


async def derive(
    record: ImageRecord, reference: str, facts: Facts, wanted: plan.Plan, engine: Engine, report: Report
) -> ImageRecord:
    """Make the image that has what the plan adds; one that another process made meanwhile will do."""
    found = await find_derived(record, reference, wanted, engine)
    if found is not None:
        return found
    names = ", ".join((*wanted.system_packages, *wanted.requirements))
    report(Step("building", f"Adding {names} to {reference}, once"))
    tag = derived_tag(record, reference, wanted)
    after = await workshop.install(
        record,
        facts.executable,
        workshop.Order.of(wanted, await asyncio.to_thread(lent_pip.lent, facts, reference)),
        engine,
        tag=tag,
        image_labels={
            labels.IMAGE_KIND: labels.IMAGE_KIND_COMPLETED,
            labels.IMAGE_BASE: identity(record),
            labels.IMAGE_BASE_NAME: reference,
            labels.IMAGE_PLAN: wanted.key(),
            **({labels.IMAGE_SYSTEM: " ".join(wanted.system_packages)} if wanted.system_packages else {}),
        },
        said=lambda line: report(Step("building", line)),
    )
    made = await engine.image(tag)
    if made is None:
        raise ImageNotFound(f"{tag} was made, but is gone.", "try again; something else removes images.")
    await remember(made, after)
    added = (made.size_bytes - record.size_bytes) / 1e6
    report(Step("building", f"Added {names} to {reference}: {added:.0f} MB more, as {tag}"))
    return made


OURS: Final = "tfgpu-completed/"
"""What the names of completed images begin with."""


def derived_tag(record: ImageRecord, reference: str, wanted: plan.Plan) -> str:
    """Return a name that says what the image is, and that no other image has."""
    words = re.sub(r"[^a-z0-9]+", "-", reference.partition("@")[0].lower()).strip("-")[:80]
    return f"{OURS}{words or 'image'}:{identity(record)[:12]}-{wanted.key()}"


def _ready(reference: str, base: ImageRecord, record: ImageRecord, facts: Facts) -> ReadyImage:
    return ReadyImage(
        reference, record, base.digest, facts.executable, facts.passwd, facts.group, constraints=plan.hold(facts)
    )


def _kept(record: ImageRecord) -> Path:
    return user_cache_path("tfgpu-images") / "facts" / f"{identity(record)}.json"


def _keep(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    disk.write(file, text)
