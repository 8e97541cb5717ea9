"""Samples to figures: medians, quartiles, percentiles, and how far a median may be from the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(samples: Sequence[float]) -> float:
    """Return the middle of the samples."""
    return statistics.median(samples)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return what a quarter of the samples lie below, and above."""
    return percentile(samples, 25), percentile(samples, 75)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return what ``percent`` of the samples lie at or below, interpolated between neighbours.

    :raises ValueError: without samples.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def upper_bound_of_median(samples: Sequence[float], confidence: float = 0.95) -> float:
    """Return what the true median lies below with this confidence, whatever the samples' distribution.

    The k-th smallest of n samples lies above the median unless at least k of them fall below it, which has the
    probability of at least k heads in n throws of a coin.

    :raises ValueError: where so few samples bound nothing: five are needed for 95 %.
    """
    ordered, throws = sorted(samples), len(samples)
    for k in range(throws // 2, throws + 1):
        at_least = sum(math.comb(throws, heads) for heads in range(k, throws + 1)) / 2**throws
        if k and at_least <= 1 - confidence:
            return ordered[k - 1]
    raise ValueError(f"{throws} samples are too few")
