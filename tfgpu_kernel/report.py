"""A verification as JSON for programs and as one HTML page for people.

What a notebook printed is shown as text, never as markup, and the page runs no code and loads nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from html import escape
from typing import Any

from .lock.compare import Difference, Grade
from .lock.record import Hardware
from .verify import CellResult, Verification

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #222; --box: #f5f5f5; --quiet: #555; --good: #2e7d32;
        --near: #8a6100; --bad: #c62828; }
@media (prefers-color-scheme: dark) {
  :root { --page: #161616; --text: #ddd; --box: #262626; --quiet: #aaa; --good: #7bc67e;
          --near: #e0b84c; --bad: #ff8a80; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: var(--text); background: var(--page); }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { padding: .6rem 1rem; border-left: .4rem solid; background: var(--box); font-weight: 600; }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
pre { background: var(--box); padding: .5rem; overflow: auto; max-height: 20rem; margin: .3rem 0; font-size: 13px; }
.g0 { color: var(--good); } .g1 { color: var(--good); } .g2 { color: var(--near); } .g3, .g4 { color: var(--bad); }
.g0::before, .g1::before { content: "✓ "; } .g2::before { content: "≈ "; } .g3::before, .g4::before { content: "✗ "; }
figure { display: inline-block; margin: .3rem 1rem .3rem 0; max-width: 30%; } img { max-width: 100%; }
figcaption { font-size: 13px; color: var(--quiet); } .quiet { color: var(--quiet); }
.old { color: var(--bad); } .new { color: var(--good); }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def to_json(result: Verification) -> dict[str, Any]:
    """Return the verification as plain data; grades as words."""
    return {
        "version": 1,
        "notebook": result.notebook,
        "reproduced": result.reproduced,
        "grade": result.grade.words,
        "verdict": result.verdict,
        "image": result.image,
        "seconds": round(result.seconds, 1),
        "findings": [vars(finding) for finding in result.findings],
        "cells": [
            {
                "number": cell.number,
                "grade": cell.grade.words,
                "counts": cell.counts,
                "unrepeatable": list(cell.unrepeatable),
                "error": cell.error,
                "differences": [
                    {"kind": one.kind, "grade": one.grade.words, "words": one.words} for one in cell.differences
                ],
            }
            for cell in result.cells
        ],
        "recorded": _hardware(result.recorded),
        "here": _hardware(result.here),
    }


def to_text(result: Verification) -> str:
    """Return the verification for a terminal."""
    lines = [result.verdict, *(f"- {finding.text}" for finding in result.findings)]
    for cell in result.cells:
        aside = "" if cell.counts else f"  (doesn't count: {'; '.join(cell.unrepeatable)})"
        lines.append(f"  cell {cell.number:>3}  {cell.grade.words}{aside}")
        lines += [f"            {one.kind}: {one.words}" for one in cell.differences]
        if cell.error:
            lines.append(f"            {cell.error}")
    return "\n".join(lines)


def to_html(result: Verification) -> str:
    """Return the verification as a page of its own."""
    return "\n".join(_page(result))


def _page(result: Verification) -> Iterator[str]:
    name = escape(result.notebook)
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{name}: verified</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{name}</h1>"
    yield f'<p class="verdict {"good" if result.reproduced else "bad"}">{escape(result.verdict)}</p>'
    yield f'<p class="quiet">Run anew in {escape(result.image)}, {result.seconds:.1f} s.</p>'
    if result.findings:
        yield "<h2>Not as it was recorded</h2><ul>"
        for finding in result.findings:
            note = "" if finding.decisive else ' <span class="quiet">(told, but not held against it)</span>'
            yield f"<li>{escape(finding.text)}{note}</li>"
        yield "</ul>"
    yield "<h2>What it ran on</h2><table><tr><th></th><th>recorded</th><th>here</th></tr>"
    old, new = _hardware(result.recorded), _hardware(result.here)
    for key in old:
        yield f"<tr><td>{escape(key)}</td><td>{escape(str(old[key]))}</td><td>{escape(str(new[key]))}</td></tr>"
    yield "</table>"
    yield '<p class="quiet">Bit-identical is promised only on the same model of GPU, or kind of CPU.</p>'
    yield "<h2>Cells</h2>"
    for cell in result.cells:
        yield from _cell(cell)
    yield "</body></html>"


def _cell(cell: CellResult) -> Iterator[str]:
    opened = " open" if cell.grade >= Grade.TOLERANCE and cell.counts else ""
    aside = "" if cell.counts else " · doesn't count: " + escape("; ".join(cell.unrepeatable))
    yield f'<details{opened}><summary>Cell {cell.number}: <b class="g{int(cell.grade)}">{cell.grade.words}</b>'
    yield f'<span class="quiet">{aside}</span></summary><pre>{escape(cell.source)}</pre>'
    if cell.error:
        yield f"<p>{escape(cell.error)}</p>"
    for one in cell.differences:
        yield f"<p><b>{escape(one.kind)}</b>: {one.grade.words}; {escape(one.words)}</p>"
        yield from _difference(one)
    yield "</details>"


def _difference(one: Difference) -> Iterator[str]:
    if one.kind in ("image/png", "image/jpeg"):
        pictures = [("recorded", one.kind, one.recorded), ("in the rerun", one.kind, one.rerun)]
        if one.picture:
            pictures.append(("where they differ", "image/png", one.picture))
        for words, kind, content in pictures:
            source = "".join(sign for sign in content if sign.isalnum() or sign in "+/=")
            yield f'<figure><img alt="" src="data:{kind};base64,{source}"><figcaption>{words}</figcaption></figure>'
        return
    lines = difflib.unified_diff(
        one.recorded.split("\n"), one.rerun.split("\n"), "recorded", "rerun", lineterm="", n=2
    )
    styles = {"-": "old", "+": "new"}
    yield "<pre>" + "\n".join(
        f'<span class="{styles.get(line[:1], "")}">{escape(line)}</span>' for line in lines
    ) + "</pre>"


def _hardware(hardware: Hardware) -> dict[str, Any]:
    return {
        "CPU": hardware.cpu or "not known",
        "processors": hardware.threads or "not known",
        "GPU": ", ".join(gpu.name for gpu in hardware.gpus) or "none",
        "driver": hardware.driver or "none",
        "container toolkit": hardware.toolkit or "none",
        "seconds": hardware.seconds if hardware.seconds is not None else "not known",
    }
