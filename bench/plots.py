"""Results to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .results import Result

_LOG: Final = {"starts", "restarts", "served"}
"""Measurements whose contenders differ by magnitudes."""
_DRAWN: Final = {
    "starts": ("start to kernel_info", "start to the first TensorFlow result"),
    "restarts": ("restart to the first TensorFlow result",),
    "served": ("POST to the first TensorFlow result",),
    "training": ("an epoch on 30,000 MNIST digits",),
    "many": ("a start, 4 at a time",),
}


def draw(result: Result, folder: Path) -> list[tuple[str, str]]:
    """Draw what deserves a picture; return the files' names, each with what it shows."""
    drawn = []
    for number, workload in enumerate(_DRAWN.get(result.name, ())):
        told = result.series.get(workload)
        if told:
            file = f"{result.name}-{number + 1}.png"
            _boxes(told, workload, result.name in _LOG, folder / file)
            drawn.append((file, workload))
    return drawn


def _boxes(told: Mapping[str, Sequence[float]], title: str, log: bool, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter

    figure: Any
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.5 * len(told)), layout="constrained")
    names = list(told)[::-1]
    axes.boxplot([told[name] for name in names], orientation="horizontal", tick_labels=names, widths=0.6)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.set_title(title, fontsize="medium")
    axes.grid(axis="x", which="both", alpha=0.3)
    figure.savefig(file, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
