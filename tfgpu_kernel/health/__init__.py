"""What is wrong with this machine, from the kernel driver to a matrix product: findings, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..engine.base import Engine
from ..errors import TfgpuError
from . import facts, ladder, smoke
from .findings import Finding, first_broken

__all__ = ["Examined", "Finding", "Tell", "examine", "first_broken"]

Tell = Callable[[str, tuple[Finding, ...]], None]
"""Called with what is looked at now, in words, and what is found by then."""


@dataclass(frozen=True)
class Examined:
    """What was found, and the reference of the image that was looked at."""

    findings: tuple[Finding, ...]
    image: str


async def examine(
    engine: Engine | TfgpuError, image: str, *, containers: bool = False, tell: Tell = lambda _, __: None
) -> Examined:
    """Examine the machine; changes nothing on it.

    :param engine: the engine, or why none was found.
    :param image: the image that kernels run, as it is set: a reference, a preset or auto.
    :param containers: whether to start a container for the upper rungs; else those aren't reached.
    :param tell: hears how far the examination is.
    """
    found = await facts.gather(engine, image, lambda what: tell(what, ()))
    lower = ladder.judge(found)
    # A container is of no use while what it stands on is broken.
    ready = all(finding.state in {"ok", "warning"} for finding in lower if finding.name in ladder.BELOW_CONTAINERS)
    if containers and ready and not isinstance(engine, TfgpuError):
        tell("a container with a GPU, and TensorFlow in it", lower)
        found = replace(found, inside=await smoke.look(engine, found))
        return Examined(ladder.judge(found), found.reference)
    return Examined(lower, found.reference)
