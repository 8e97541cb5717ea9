"""What the figures should be, and whether they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from .contenders import COLD, FLOOR, GATEWAY, LOCAL, OURS, WARM
from .figures import median, percentile
from .results import Result

Results = Mapping[str, Result]
INFO: Final = "start to kernel_info"
FIRST: Final = "start to the first TensorFlow result"


@dataclass(frozen=True)
class Target:
    """A bound for one figure."""

    what: str
    limit: float
    find: Callable[[Results], float]
    unit: str = ""
    at_least: bool = False

    def measured(self, found: Results) -> float | None:
        """Return the figure; None where its measurement was not taken."""
        try:
            return self.find(found)
        except (KeyError, ValueError):
            return None

    def met(self, value: float) -> bool:
        """Say whether a figure is within the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def bound(self) -> str:
        """Return the bound in words."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def shown(self, value: float) -> str:
        """Return a figure in the bound's unit."""
        return f"{value:.3g}{self.unit}"


def _samples(found: Results, name: str, workload: str, contender: str) -> list[float]:
    return found[name].series[workload][contender]


def _median(name: str, workload: str, contender: str, scale: float = 1) -> Callable[[Results], float]:
    return lambda found: scale * median(_samples(found, name, workload, contender))


def _percentile(name: str, workload: str, contender: str, percent: float, scale: float) -> Callable[[Results], float]:
    return lambda found: scale * percentile(_samples(found, name, workload, contender), percent)


def _times(name: str, workload: str, above: str, below: str) -> Callable[[Results], float]:
    return lambda found: median(_samples(found, name, workload, above)) / median(
        _samples(found, name, workload, below)
    )


def _of_many(row: str) -> Callable[[Results], float]:
    return lambda found: float(found["many"].facts["kernels"]["100"][row])


def _cold(found: Results) -> float:
    local, floor = (median(_samples(found, "starts", INFO, who)) for who in (LOCAL, FLOOR))
    return median(_samples(found, "starts", INFO, COLD)) / (local + floor)


def _cpu(found: Results) -> float:
    kernels = found["many"].facts["kernels"]
    many, none = (float(kernels[number]["server's CPU, percent of a core"]) for number in ("100", "0"))
    return many - none


def _whole(found: Results) -> float:
    facts = found["paced"].facts
    return float(facts["first cell's output whole"]) / float(facts["restarts"])


TARGETS: Final = (
    Target("warm start to kernel_info, median", 50, _median("starts", INFO, WARM, 1000), " ms"),
    Target("warm start to kernel_info, 95th percentile", 150, _percentile("starts", INFO, WARM, 95, 1000), " ms"),
    Target("warm start to the first TensorFlow result, median", 0.25, _median("starts", FIRST, WARM), " s"),
    Target("that, as often faster than local", 15, _times("starts", FIRST, LOCAL, WARM), "×", at_least=True),
    Target("that, as often faster than gateway_provisioners", 30, _times("starts", FIRST, GATEWAY, WARM), "×",
           at_least=True),
    Target("restart, from the old kernel's end to the first TensorFlow result, median", 0.5,
           _median("restarts", "of that, after the old kernel's end", WARM), " s"),
    Target("first cell's output whole after a restart", 1, _whole, "", at_least=True),
    Target("through a server, POST to the first TensorFlow result, median", 0.3,
           _median("served", "POST to the first TensorFlow result", WARM), " s"),
    Target("cold start to kernel_info, of local + floor", 0.95, _cold),
    Target("cold start to kernel_info, as often faster than gateway_provisioners", 2,
           _times("starts", INFO, GATEWAY, COLD), "×", at_least=True),
    Target("round trip, of local's, medians", 1.05, _times("messages", "round trip", OURS, LOCAL)),
    Target("output throughput, of local's, medians", 0.95,
           _times("messages", "20,000 printed lines", LOCAL, OURS), at_least=True),
    Target("training time, of the host's: 95 % bound of the median", 1.05,
           lambda found: float(found["training"].facts["the true median ratio is below, with 95 % confidence"])),
    Target("100 idle kernels: server's CPU beyond none, percent of a core", 2, _cpu),
    Target("100 idle kernels: engine calls per minute and kernel", 0, _of_many("engine calls per minute and kernel")),
    Target("100 kernels: a start with 4 at a time, 95th percentile", 3,
           _percentile("many", "a start, 4 at a time", "100", 95, 1), " s"),
    Target("100 kernels: failures", 0, _of_many("failures")),
    Target("100 kernels: until all are removed", 10, _of_many("seconds until all are removed"), " s"),
)  # fmt: skip
