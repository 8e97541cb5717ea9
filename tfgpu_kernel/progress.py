"""How a launch tells what it is doing: one record a step, sent to a plain function.

Who listens decides how it looks: a log line, a progress bar in a terminal, an event for the browser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "engine",  # finding the engine, judging it
    "gpu",  # judging and choosing GPUs, waiting for one
    "resolving",  # finding the image
    "downloading",  # done and total in bytes
    "unpacking",  # done and total in bytes where the engine tells them
    "building",  # adding ipykernel, or making an image
    "creating",  # making the container
    "starting",  # waiting for the kernel's first answer
    "ready",
    "failed",
    "cancelled",
]


@dataclass(frozen=True)
class Step:
    """One thing a launch is doing now.

    ``done`` and ``total`` are bytes in the phases ``downloading`` and ``unpacking``, counts elsewhere, and
    None where the amount is not known.
    """

    phase: Phase
    text: str
    done: int | None = None
    total: int | None = None
    seconds_left: float | None = None
    portion: float | None = None
    """How much of the whole is done, 0 to 1, where that is more than ``done`` of ``total``: a pull learns
    its total only on the way."""
    notice: bool = False
    """Whether the text is a sentence to read, and not only to see go by: a warning, or why this image."""
    preset: str = ""
    """The preset that a warning advises to take instead."""

    @property
    def fraction(self) -> float | None:
        """How much of the step is done, 0 to 1, or None where that is not known."""
        if self.portion is not None:
            return self.portion
        if self.done is None or not self.total:
            return None
        return min(1.0, self.done / self.total)


Report = Callable[[Step], None]
"""Takes each step as it happens. Called on the event loop's thread; must not block."""


def unheard(step: Step) -> None:
    """Be the report of a caller that does not want to know."""
