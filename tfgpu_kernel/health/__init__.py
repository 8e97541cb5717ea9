"""What is wrong with this machine, from the kernel driver to a matrix product: findings, each with its remedy."""

from __future__ import annotations

from dataclasses import replace

from ..engine.base import Engine
from ..errors import TfgpuError
from . import facts, ladder, smoke
from .findings import Finding, first_broken

__all__ = ["Finding", "examine", "first_broken"]


async def examine(engine: Engine | TfgpuError, image: str, *, containers: bool = False) -> tuple[Finding, ...]:
    """Examine the machine; changes nothing on it.

    :param engine: the engine, or why none was found.
    :param image: the reference of the image that kernels run.
    :param containers: whether to start a container for the upper rungs; else those aren't reached.
    """
    found = await facts.gather(engine, image)
    lower = ladder.judge(found)
    # A container is of no use while what it stands on is broken.
    ready = all(finding.state in {"ok", "warning"} for finding in lower if finding.name in ladder.BELOW_CONTAINERS)
    if containers and ready and not isinstance(engine, TfgpuError):
        found = replace(found, inside=await smoke.look(engine, found))
        return ladder.judge(found)
    return lower
