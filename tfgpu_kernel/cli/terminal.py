"""Steps as a person at a terminal sees them: a progress bar, or lines where the output is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..progress import Report, Step

_LINE_EVERY = 0.1
"""Of a step with a fraction, a line is printed when this much more is done."""


@contextlib.contextmanager
def shown() -> Iterator[Report]:
    """Give a report that shows on standard error what it is told; the bar goes away at the end."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None, amount="")

        def tell(step: Step) -> None:
            progress.update(
                bar,
                description=step.text[: max(20, console.width - 60)],
                total=1.0 if step.fraction is not None else None,
                completed=step.fraction or 0.0,
                amount=amount(step),
            )

        yield tell


def amount(step: Step) -> str:
    """Return how much of a step is done, in words."""
    if step.phase not in ("downloading", "unpacking") or step.done is None:
        return ""
    text = (
        f"{step.done / 1e6:.0f} MB"
        if step.total is None
        else f"{step.done / 1e6:.0f}/{step.total / 1e6:.0f} MB"
    )
    return text if step.seconds_left is None else f"{text}, {_duration(step.seconds_left)} left"


class _Lines:
    """Prints a line when a step's text is new, or when enough more of it is done."""

    def __init__(self) -> None:
        self._last = ("", 0.0)

    def __call__(self, step: Step) -> None:
        text, fraction = self._last
        now = step.fraction or 0.0
        begun = f"{step.phase} {step.text.partition(',')[0]}"
        if begun == text and now - fraction < _LINE_EVERY:
            return
        self._last = (begun, now)
        more = amount(step)
        sys.stderr.write(f"{step.text}{f' ({more})' if more else ''}\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
