"""Samples as a picture: one small curve for each quantity, over the minutes; SVG, which needs no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 230
HEIGHT: Final = 110
COLUMNS: Final = 3
_TITLES: Final = {
    "kernels": "kernels (the load)",
    "memory_mib": "server's own memory, MiB",
    "descriptors": "server's descriptors",
    "sockets": "server's sockets",
    "threads": "server's threads",
    "containers": "containers",
    "run_folders": "run folders",
    "socket_files": "socket files",
    "images": "images",
}


def picture(samples: Sequence[Mapping[str, float]], verdict: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SVG; each curve starts at 0, so that what looks flat is flat."""
    rows = -(-len(_TITLES) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * WIDTH}" height="{rows * HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    last = samples[-1]["minute"]
    for number, (name, title) in enumerate(_TITLES.items()):
        left, top = number % COLUMNS * WIDTH + 12, number // COLUMNS * HEIGHT + 10
        wide, high = WIDTH - 24, HEIGHT - 46
        most = max(one[name] for one in samples) or 1
        points = " ".join(
            f"{left + wide * one['minute'] / last:.1f},{top + 14 + high * (1 - one[name] / most):.1f}"
            for one in samples
        )
        values = [one[name] for one in samples]
        told = f"{min(values):g} to {max(values):g}"
        if name in verdict:
            told += ", flat" if verdict[name]["flat"] else ", GROWS"
        parts += [
            f'<text x="{left}" y="{top + 6}" fill="#222">{title}</text>',
            f'<line x1="{left}" y1="{top + 14 + high}" x2="{left + wide}" y2="{top + 14 + high}" stroke="#bbb"/>',
            f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>',
            f'<text x="{left}" y="{top + high + 28}" fill="#666">{told} in {last:g} min</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
