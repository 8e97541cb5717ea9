"""``python -m bench [WHAT …] [--rounds N]``: measure, say whether it is within its targets, write docs/benchmarks."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import many, messages, report, restarts, results, served, starts, training
from .machine import machine
from .results import Result
from .rounds import Rounds
from .stage import Stage, stage


class Measurement(NamedTuple):
    """What can be measured, and how often it is by default."""

    measure: Callable[[Stage, Rounds], Coroutine[Any, Any, Result]]
    rounds: int
    what: str


MEASUREMENTS: Final = {
    "starts": Measurement(starts.measure, 10, "start, first TensorFlow result, shutdown"),
    "restarts": Measurement(restarts.measure, 10, "restart on open channels"),
    "paced": Measurement(restarts.measure_paced, 12, "a restart every 20 s"),
    "served": Measurement(served.measure, 15, "through jupyter_server's REST and websocket"),
    "messages": Measurement(messages.measure, 6, "round trips, output, small cells"),
    "training": Measurement(training.measure, 20, "MNIST on the host and in a container"),
    "many": Measurement(many.measure, 1, "1, 10, 50 and 100 kernels of one server"),
}


def main() -> None:
    """Measure what was asked for, else all, and tell."""
    # As at Ctrl-C, all that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and write docs/benchmarks.")
    parser.add_argument("what", nargs="*", help=f"{', '.join(MEASUREMENTS)}, or report; all by default")
    parser.add_argument("--rounds", type=int, help="how often; each has its own default")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further round after so long")
    parser.add_argument("--image", default="", help="image with TensorFlow; by default the tests' own")
    parser.add_argument("--into", type=Path, default=results.FOLDER, help="folder of JSON, table and plots")
    options = parser.parse_args()
    asked = options.what or list(MEASUREMENTS)
    unknown = set(asked) - {*MEASUREMENTS, "report"}
    if unknown:
        parser.error(f"can't measure {', '.join(sorted(unknown))}")
    measured = [name for name in asked if name != "report"]
    if measured:
        with stage(options.image) as place:
            for name in measured:
                result = _take(name, Rounds(options.rounds or MEASUREMENTS[name].rounds, options.seconds), place)
                result.write(options.into)
                print(report.section(result), flush=True)
                print(report.verdicts({name: result}), flush=True)
    report.write(options.into)


def _take(name: str, rounds: Rounds, place: Stage) -> Result:
    print(f"measuring: {MEASUREMENTS[name].what}", flush=True)
    told = machine()
    result = asyncio.run(MEASUREMENTS[name].measure(place, rounds))
    result.command = f"python -m bench {name} --rounds {rounds.count}"
    result.taken = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    shared = {f"kernels' {name}": number for name, number in place.versions.items()}
    result.machine = told | {"versions": told["versions"] | shared}
    return result


if __name__ == "__main__":
    main()
