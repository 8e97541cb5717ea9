"""Findings as people read them: in a terminal, and as a report that may be pasted where everybody sees it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .findings import Finding, first_broken

SYMBOLS: Final = {"ok": "✓", "warning": "!", "broken": "✗", "not reached": "·"}
COLOURS: Final = {"ok": "green", "warning": "yellow", "broken": "bold red", "not reached": "dim"}
_SECRETS: Final = (
    (r"(?i)\b([\w-]*(?:token|password|secret|passwd|api[_-]?key|authorization)[\w-]*)(\s*[=:]\s*)\S+", r"\1\2***"),
    (r"://[^/\s@]+@", "://***@"),
    (r"\b(GPU|MIG)-[0-9a-fA-F]{4}[0-9a-fA-F-]{4,}", r"\1-***"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "***"),
    (r"\b[0-9a-f]{64}\b", "***"),
)


def lines(findings: Sequence[Finding], *, colour: bool = False) -> list[str]:
    """Return the lines of the ladder, then what stands beside it, then what to mend first.

    :param colour: whether to mark them up for rich.
    """
    told = []
    for part, heading in (("ladder", "The way to the GPU, from the bottom up"), ("beside", "Beside it")):
        told += [_marked(heading, "bold", colour)]
        for finding in findings:
            if finding.part == part:
                told += _one(finding, colour)
        told.append("")
    return [*told, verdict(findings)]


def verdict(findings: Sequence[Finding]) -> str:
    """Return the one sentence that matters."""
    broken = first_broken(findings)
    if broken is not None:
        return f"To mend first: {broken.title}."
    open_rungs = [finding.title for finding in findings if finding.state == "not reached" and finding.part == "ladder"]
    if open_rungs:
        return f"Nothing is broken as far as was looked; not looked at: {', '.join(open_rungs)}."
    warnings = sum(finding.state == "warning" for finding in findings)
    return "All is well." if not warnings else f"All works; {warnings} warning{'s' * (warnings > 1)} above."


def report(findings: Sequence[Finding], about: Sequence[str], private: Sequence[str]) -> str:
    """Return a text for an issue, in Markdown: no names, addresses, identities of devices, or secrets.

    :param about: lines about versions that go first.
    :param private: words that must not appear, such as the user's and the host's names.
    """
    body = "\n".join([*about, "", *lines(findings)])
    return f"```text\n{scrubbed(body, private)}\n```"


def scrubbed(text: str, private: Sequence[str]) -> str:
    """Return a text without what is nobody's business."""
    for pattern, instead in _SECRETS:
        text = re.sub(pattern, instead, text)
    for word in sorted(filter(None, private), key=len, reverse=True):
        # A path is taken out wherever it begins; a name only where it is a whole word, or "root" would go everywhere.
        pattern = re.escape(word) if "/" in word else rf"\b{re.escape(word)}\b"
        text = re.sub(pattern, "~" if "/" in word else "***", text)
    return text


def _one(finding: Finding, colour: bool) -> list[str]:
    symbol = _marked(SYMBOLS[finding.state], COLOURS[finding.state], colour)
    told = [f"{symbol} {finding.title}: {_plain(finding.message, colour)}"]
    if finding.remedy and finding.state != "ok":
        told.append(f"    → {_plain(finding.remedy, colour)}")
    if finding.details and finding.state == "broken":
        told += [f"      {_plain(line, colour)}" for line in finding.details.strip().splitlines()[-6:]]
    return told


def _plain(text: str, colour: bool) -> str:
    return text.replace("[", r"\[") if colour else text


def _marked(text: str, style: str, colour: bool) -> str:
    return f"[{style}]{text}[/]" if colour else text
