"""Whether a server that runs for long leaks: ``python -m bench.soak`` has kernels come, work and go for an hour.

A real jupyter_server and a real engine. Each of 20 slots starts a notebook's session, runs cells over a page's
websocket, interrupts one, restarts some kernels, ends the session, and begins again; two slots run TensorFlow. Every
minute what the server holds is counted. The result is a JSON file, a picture, and a verdict by the rule in
:func:`judged`. Errors are answers of the server that are none, cells that print something else than they should, and
what the server logs as errors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import stat
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from tests.faults.serving import Page, Server
from tests.images import recipes
from tests.live.conftest import install
from tfgpu_kernel.engine.docker import THREADS

from .soak_picture import picture

KERNELS: Final = 20
WITH_TENSORFLOW: Final = 2
LIFE_SECONDS: Final = (30, 150)
"""How long a kernel is used; a slot takes a new one afterwards."""
PATIENCE_SECONDS: Final = 240.0
"""Twenty kernels on two processors that others use, too: slow is no error."""
BOUNDS: Final = {"memory_mib": (0.05, 8.0), "descriptors": (0.02, 4.0), "sockets": (0.02, 4.0)}
"""Growth under load that counts as none: a share of the median, and so many, whichever is more."""
LEFT_BOUNDS: Final = {
    "descriptors": 2 * THREADS,  # each of the engine's threads keeps a connection, and has come up by the end
    "sockets": 2 * THREADS,
    "threads": 2 * THREADS,
    "containers": 0,
    "run_folders": 0,
    "socket_files": 0,
    "images": 0,
}
"""How many more there may be with no kernel after the load than with no kernel before it."""
READY: Final = 2
"""Kernels that the server keeps ready: one of each kernelspec."""
SETTLE_SECONDS: Final = 90.0
_QUIET: Final = ("--env=TF_CPP_MIN_LOG_LEVEL=3", "--env=TF_ENABLE_ONEDNN_OPTS=0")
"""TensorFlow writes nothing beside what the cell prints."""
_TENSORFLOW_CELL: Final = "import tensorflow as tf; print(int(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64)))))"


class Load:
    """What the slots do, and what went wrong."""

    def __init__(self, server: Server, end: float) -> None:
        self.server, self.end = server, end
        self.errors: list[str] = []
        self.counts = {"kernels": 0, "cells": 0, "interrupts": 0, "restarts": 0}
        self.live = 0
        self._lock = threading.Lock()

    def slot(self, number: int, kernel: str) -> None:
        """Have one kernel after the other, until the end; errors are noted and hinder nothing."""
        chance = random.Random(number)  # noqa: S311 - the same load each time
        time.sleep(chance.uniform(0, min(60, (self.end - time.time()) / 4)))
        turn = 0
        while time.time() < self.end:
            turn += 1
            try:
                self._kernel(f"soak-{number}-{turn}.ipynb", kernel, chance)
            except Exception as error:  # whatever it is, it counts, and the load goes on
                self._note(f"{time.strftime('%H:%M:%S')} slot {number}: {type(error).__name__}: {str(error)[:300]}")
                time.sleep(5)

    def _kernel(self, notebook: str, kernel: str, chance: random.Random) -> None:
        model = self.server.session(notebook, kernel)
        kernel_id, until = model["kernel"]["id"], time.time() + chance.uniform(*LIFE_SECONDS)
        self._count("kernels", live=1)
        try:
            with self.server.page(kernel_id) as page:
                if kernel == "tf":
                    self._cell(page, _TENSORFLOW_CELL, "262144\n")
                while time.time() < min(until, self.end):
                    self._work(page, kernel_id, chance)
                    time.sleep(chance.uniform(2, 10))
            if chance.random() < 0.2:
                self.server.call("POST", f"api/kernels/{kernel_id}/restart")
                self._count("restarts")
                with self.server.page(kernel_id) as page:
                    self._cell(page, "print(kept)", "NameError")
        finally:
            self.server.call("DELETE", f"api/sessions/{model['id']}")
            self._count("kernels", 0, live=-1)

    def _work(self, page: Page, kernel_id: str, chance: random.Random) -> None:
        what = chance.random()
        if what < 0.2:
            request = page.send("print('begun')\nimport time\nfor _ in range(6000): time.sleep(0.1)")
            # An interrupt that comes before the cell is begun interrupts nothing, here as in any kernel.
            page.until(request, lambda text: "begun" in text)
            time.sleep(0.2)
            self.server.call("POST", f"api/kernels/{kernel_id}/interrupt")
            self._expect(page.until(request), "KeyboardInterrupt", "an interrupt")
            self._count("interrupts")
        elif what < 0.4:
            self._cell(page, "for n in range(2000): print(n)", "".join(f"{n}\n" for n in range(2000)))
        elif what < 0.5:
            self._cell(page, "1 / 0", "ZeroDivisionError")
        else:
            number = chance.randrange(10**6)
            self._cell(page, f"kept = {number}; print(kept + 1)", f"{number + 1}\n")

    def _cell(self, page: Page, code: str, wanted: str) -> None:
        self._expect(page.run(code), wanted, code)
        self._count("cells")

    def _expect(self, got: str, wanted: str, what: str) -> None:
        if got != wanted:
            self._note(f"{time.strftime('%H:%M:%S')} {what[:60]!r} gave {got[-200:]!r}")

    def _note(self, text: str) -> None:
        with self._lock:
            self.errors.append(text)
        print("error:", text, flush=True)

    def _count(self, what: str, by: int = 1, live: int = 0) -> None:
        with self._lock:
            self.counts[what] += by
            self.live += live


def sample(server: Server, runtime: Path, began: float, live: int) -> dict[str, float]:
    """Count what the server's process, the engine and the runtime folder hold now."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    held = _held(process.pid)
    asked = time.monotonic()
    server.get("api/kernels")
    return {
        "minute": round((time.time() - began) / 60, 2),
        "kernels": live,
        "memory_mib": round(process.memory_full_info().uss / 2**20, 1),
        "descriptors": len(held),
        "sockets": sum(1 for name in held if name.startswith("socket:")),
        "threads": process.num_threads(),
        **_made(runtime),
        # What a start could leave: images made for kernels, and unnamed ones. Others may make theirs meanwhile.
        "images": sum(
            name.startswith(("tfgpu-completed/", "<none>")) for name in _docker("images", "--format", "{{.Repository}}")
        ),
        "answer_ms": round(1000 * (time.monotonic() - asked), 1),
    }  # fmt: skip


def _held(pid: int) -> list[str]:
    """Return what a process has open; descriptors come and go while one looks."""
    held = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            held.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return held


def _made(runtime: Path) -> dict[str, int]:
    """Count what kernels of this runtime folder have made."""
    runs = _docker("ps", "--all", "--format", '{{.Label "io.tfgpu.run"}}')
    folders = os.scandir(runtime / "tfgpu") if (runtime / "tfgpu").is_dir() else ()
    files = [os.path.join(parent, name) for parent, _, names in os.walk(runtime) for name in names]
    return {
        "containers": len([run for run in runs if run.startswith(str(runtime))]),
        "run_folders": sum(entry.is_dir(follow_symlinks=False) for entry in folders),
        "socket_files": sum(map(_is_socket, files)),
    }


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def judged(
    samples: Sequence[dict[str, float]], before: dict[str, float], after: dict[str, float]
) -> dict[str, dict[str, Any]]:
    """Say of each quantity whether it is flat.

    Under load: the first quarter is for warming up. Of the rest the slope is taken by Theil and Sen (the median of the
    slopes between all pairs of samples, which single peaks don't move); the slope times the time that the rest spans
    is the growth, and counts as none up to :data:`BOUNDS`. How many containers, folders and socket files there are
    under load says how busy the machine is, since some are always being made or removed; what kernels leave behind is
    seen without any: the same ready kernels and no more, after the load as before it (:data:`LEFT_BOUNDS`).
    """
    rest = samples[len(samples) // 4 :]
    span = rest[-1]["minute"] - rest[0]["minute"]
    verdict: dict[str, dict[str, Any]] = {}
    for name, (share, number) in BOUNDS.items():
        values = [one[name] for one in rest]
        slopes = [
            (values[j] - values[i]) / (rest[j]["minute"] - rest[i]["minute"])
            for i in range(len(rest))
            for j in range(i + 1, len(rest))
        ]
        middle = statistics.median(values)
        growth, bound = statistics.median(slopes) * span, max(share * middle, number)
        verdict[name] = {"growth": round(growth, 2), "bound": round(bound, 2), "flat": growth <= bound}
    ready = {"containers": READY, "run_folders": READY, "socket_files": 6 * READY}  # whether they are ready yet or not
    for name, most in LEFT_BOUNDS.items():
        more = after[name] - max(before[name], ready.get(name, 0))
        flat = more <= most and verdict.get(name, {"flat": True})["flat"]
        verdict[name] = {**verdict.get(name, {}), "left": more, "left_bound": most, "flat": flat}
    return verdict


def logged(server: Server) -> list[str]:
    """Return the lines of the server's log that tell of errors."""
    pattern = re.compile(r"^\[E |Traceback|Task exception was never|Exception in callback")
    return [line for line in server.log.read_text().splitlines() if pattern.search(line)]


def settled(server: Server, runtime: Path) -> dict[str, float]:
    """Return what there is with no kernel, once nothing is being made or removed any more."""
    end = time.monotonic() + SETTLE_SECONDS
    last = sample(server, runtime, time.time(), 0)
    while time.monotonic() < end:
        time.sleep(8)
        now = sample(server, runtime, time.time(), 0)
        if _still(now) == _still(last) and now["containers"] == now["run_folders"]:
            return now
        last = now
    return last


def _still(one: dict[str, float]) -> list[float]:
    return [one[name] for name in ("containers", "run_folders", "socket_files")]


def _docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.split()


def run(minutes: float, kernels: int, every: float, folder: Path) -> dict[str, Any]:
    """Soak for so long; return the result."""
    runtime, workspace = folder / "runtime", folder / "work"
    workspace.mkdir()
    os.environ |= {"JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_PATH": str(folder / "prefix/share/jupyter")}
    for name, image in (("tfgpu", "slim"), ("tf", "tf:py311")):
        install(folder / "prefix", name, "--image", recipes.ensure(image), "--gpus", "none", *_QUIET)
    server = Server(workspace, patience=PATIENCE_SECONDS)
    server.start()
    for name in ("tfgpu", "tf"):  # from now on one of each is kept ready
        server.call("DELETE", f"api/sessions/{server.session(f'first-{name}.ipynb', name)['id']}")
    before = settled(server, runtime)
    began = time.time()
    load = Load(server, began + 60 * minutes)
    threads = [
        threading.Thread(target=load.slot, args=(number, "tf" if number < WITH_TENSORFLOW else "tfgpu"))
        for number in range(kernels)
    ]
    samples = []
    try:
        for thread in threads:
            thread.start()
        while time.time() < load.end:
            time.sleep(max(0, min(every - (time.time() - began) % every, load.end - time.time())))
            samples.append(sample(server, runtime, began, load.live))
            print(json.dumps(samples[-1]), flush=True)
        for thread in threads:
            thread.join()
        after = settled(server, runtime)
        server.stop()
        errors = load.errors + logged(server)
    finally:
        server.end()
    verdict = judged(samples, before, after)
    return {
        "minutes": minutes,
        "slots": kernels,
        "load": load.counts,
        "errors": errors,
        "flat": all(one["flat"] for one in verdict.values()),
        "verdict": verdict,
        "before": before,
        "after": after,
        "left": _made(runtime),
        "samples": samples,
    }


def main() -> int:
    """Soak, write the result, and return 0 where all is flat and nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kernels", type=int, default=KERNELS)
    parser.add_argument("--every", type=float, default=60, help="seconds between samples")
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="folder for soak.json and soak.svg")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tfgpu-soak-") as folder:
        result = run(arguments.minutes, arguments.kernels, arguments.every, Path(folder))
        for log in Path(folder).glob("server-*.log"):
            (arguments.out / "server.log").write_bytes(log.read_bytes())
    (arguments.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "soak.svg").write_text(picture(result["samples"], result["verdict"]))
    for name, one in result["verdict"].items():
        under = f"{one['growth']:+.2f} under load (bound {one['bound']:.2f})" if "growth" in one else ""
        left = f"{one['left']:+.0f} with no kernel (bound {one['left_bound']})" if "left" in one else ""
        print(f"{name:14} {'flat' if one['flat'] else 'GROWS':6} {under} {left}")
    print(f"{result['load']}; {len(result['errors'])} errors")
    print(f"left after the server's end: {result['left']}")
    print("flat" if result["flat"] else "not flat")
    return 0 if result["flat"] and not result["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
