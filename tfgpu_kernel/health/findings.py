"""What an examination of the machine finds: one record a rung of the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken", "not reached"]
Part = Literal["ladder", "beside"]


@dataclass(frozen=True)
class Finding:
    """One rung.

    :param name: stable, for programs: ``driver``, ``nvml``, ``toolkit``, ``registered``, ``device``, ``libcuda``,
        ``tensorflow``, ``product``; beside the ladder ``engine``, ``disk``, ``image``, ``fit``, ``restart``.
    :param title: the rung's name for people.
    :param message: what was found, a sentence or two.
    :param remedy: what to do on this machine; empty where nothing is to be done.
    :param details: the original text, where there is one.
    """

    name: str
    title: str
    state: State
    message: str
    remedy: str = ""
    details: str = ""
    part: Part = "ladder"


def first_broken(findings: Sequence[Finding]) -> Finding | None:
    """Return the lowest rung that is broken: what is to be mended first. None where all is well."""
    return next((finding for finding in findings if finding.state == "broken"), None)
