"""Keep Python packages in a notebook: resolve them in its image, lock them by hash, and make them ready."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import config as settings
from . import gpus, policy
from .config import KernelConfig
from .engine.base import Engine
from .errors import ConfigError
from .image import choice, ensure, locked, resolve
from .launch import hardware
from .lock import consent
from .lock.read import Found
from .lock.record import Lock, Package, Packages, Software
from .lock.start import follow
from .locking import image_of, put
from .policy import Policy
from .progress import Report, Step, unheard


@dataclass(frozen=True)
class Kept:
    """The lock with the packages, what came and went by it, and whether recorded results were dropped."""

    lock: Lock
    came: tuple[str, ...]
    went: tuple[str, ...]
    unlocked: bool


async def keep(
    notebook: Any,
    path: Path,
    found: Found | None,
    base: KernelConfig,
    engine: Engine,
    report: Report,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> Kept:
    """Change what a notebook keeps, and put the lock into it; its file is not written.

    :param base: the kernel's settings; its image is taken where the notebook has no lock yet.
    :raises ConfigError: for a requirement that is none, or a package to be removed that isn't kept.
    :raises ImageBuildFailed: where the packages don't fit the image or each other.
    :raises PolicyRefused: where the administrator doesn't allow the image.
    """
    old = found.lock if found else None
    wanted = changed(old.packages.kept if old else (), add, remove)
    limits = await asyncio.to_thread(policy.load)
    if old is not None:
        chosen = follow(base, old)
        assert chosen.locked is not None
        limits.check_image(chosen.image)
        record = await locked.present(chosen.image, chosen.locked, engine, chosen, report)
    else:
        base = await _named(base, limits, engine, report)
        limits.check_image(base.image)
        record = await ensure.present(base.image, engine, base, report)
    image = old.image if old else image_of(base.image, record)
    facts = await ensure.known(record, image.reference, engine, report)
    report(Step("building", f"Resolving {', '.join(wanted) or 'what a kernel needs'}"))
    named = {canonicalize_name(Requirement(text).name) for text in (*add, *remove)}
    held = [f"{one.name}=={one.version}" for one in old.packages.added if one.name not in named] if old else []
    resolved = await resolve.resolve(
        record, facts, image.reference, wanted, held, engine, lambda line: report(Step("building", line))
    )
    added = tuple(Package(name, version, (sha256,)) for name, version, sha256 in sorted(resolved))
    installed = {**facts.packages, **{one.name: one.version for one in added}}
    system = old.packages.system if old else base.system_packages
    python = ".".join(map(str, facts.python))
    lock = replace(
        old or Lock(image, software=Software(python, facts.tensorflow, facts.cuda, facts.cudnn)),
        packages=Packages(wanted, added, system, (), dict(sorted(installed.items()))),
        cells=None,
    )
    put(notebook, lock)
    ready = follow(base, lock)
    await ensure.ensure(ready.image, engine, ready, report)  # so that the next start need not wait
    consent.give(lock)  # whose notebook it is has asked for just these packages
    before = {(one.name, one.version) for one in old.packages.added} if old else set()
    after = {(one.name, one.version) for one in added}
    return Kept(
        lock,
        tuple(f"{name} {version}" for name, version in sorted(after - before)),
        tuple(f"{name} {version}" for name, version in sorted(before - after)),
        old is not None and old.cells is not None,
    )


async def _named(base: KernelConfig, limits: Policy, engine: Engine, report: Report) -> KernelConfig:
    """Return the settings with the image that a start would take, by its reference; no GPU is needed for that."""
    info = await engine.info()
    judged = await gpus.judge(replace(base, gpu_required=False), limits, info, unheard)
    chosen = choice.choose(base.image, hardware(base, judged, engine, info))
    if chosen.because:
        report(Step("resolving", chosen.because, notice=True))
    return replace(base, image=chosen.reference)


def changed(kept: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    """Return the requirements after a change: a new one replaces one of the same name.

    :raises ConfigError: for a requirement that is none, or a package to be removed that isn't kept.
    """
    found = {canonicalize_name(Requirement(text).name): text for text in kept}
    for text in add:
        checked = settings.package(text)
        if Requirement(checked).marker is not None:
            raise ConfigError(
                f"{text!r} has a condition, and a lock is for one environment.", "leave the condition out."
            )
        found[canonicalize_name(Requirement(checked).name)] = checked
    for text in remove:
        if found.pop(canonicalize_name(text), None) is None:
            raise ConfigError(
                f"The notebook doesn't keep {text!r}.", f"name one of {', '.join(kept) or '(it keeps none)'}."
            )
    return tuple(found.values())
