"""Which files pip would add to an image, each by its hash: the image's own pip resolves, in a container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Final

from packaging.version import InvalidVersion, Version

from ..engine.base import Engine, ImageRecord
from ..errors import ImageBuildFailed
from . import lent_pip, plan, workshop
from .facts import Facts

Resolved = tuple[str, str, str]
"""Name, version, SHA-256."""

_MARK: Final = "tfgpu-resolved:"
_REPORTING_PIP: Final = Version("22.2")
"""From here on pip tells what it would install, without installing it."""


async def resolve(
    record: ImageRecord,
    facts: Facts,
    reference: str,
    packages: Sequence[str],
    held: Sequence[str],
    engine: Engine,
    said: Callable[[str], None],
) -> tuple[Resolved, ...]:
    """Return what a kernel with these packages takes besides the image, the kernel's own needs included.

    :param held: ``name==version`` of packages that stay at their versions if they are still needed.
    :raises ImageBuildFailed: with pip's last words, where they don't fit the image or each other.
    """
    wanted = plan.complete(facts, reference, packages)
    if wanted is None:
        return ()
    pip = await asyncio.to_thread(lent_pip.lent, facts, reference)
    order = workshop.Order(wanted.requirements, (*wanted.constraints, *held), _pip(facts), lent_pip=pip)
    return await _ask(record, facts, order, engine, said)


async def hashes(
    record: ImageRecord, facts: Facts, added: Sequence[str], engine: Engine, said: Callable[[str], None]
) -> tuple[Resolved, ...]:
    """Return the hashes of packages that are known by name and version (``name==version``)."""
    if not added:
        return ()
    pip = await asyncio.to_thread(lent_pip.lent, facts, next(iter(record.tags), record.id))
    order = workshop.Order(("--no-deps", *added), (), _pip(facts), lent_pip=pip)
    return await _ask(record, facts, order, engine, said)


async def _ask(
    record: ImageRecord, facts: Facts, order: workshop.Order, engine: Engine, said: Callable[[str], None]
) -> tuple[Resolved, ...]:
    async with workshop.container(record, facts.executable, "resolve", engine, order) as made:
        end = asyncio.wrap_future(engine.watch(made))
        try:
            await engine.start(made)
            lines = [line async for line in workshop.lines(engine.follow(made), said)]
            code = (await end).code
        finally:
            engine.unwatch(made)
    found = next((line for line in lines if line.startswith(_MARK)), None)
    if code or found is None:
        raise workshop.failed(lines, "the notebook")
    try:
        return tuple((str(n), str(v), str(h)) for n, v, h in json.loads(found.removeprefix(_MARK)))
    except ValueError as error:
        raise ImageBuildFailed("pip's report can't be read.", "try again.", found[:500]) from error


def _pip(facts: Facts) -> str:
    try:
        if Version(facts.packages.get("pip", "0")) >= _REPORTING_PIP:
            return ""
    except InvalidVersion:
        pass
    return f"pip=={plan.LAST_PIP[facts.python[:2]]}" if facts.python[:2] in plan.LAST_PIP else "pip>=24"
