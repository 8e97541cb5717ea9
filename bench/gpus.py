"""What showing GPUs costs: one sample's CPU time, and how late the server's loop gets with pages open.

``python -m bench.gpus`` prints both as JSON. The driver is the tests' double, so what NVIDIA's own library costs is
not in the figures; all else is real: 50 processes in /proc, a jupyter_server, pages that ask every two seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.doubles.host import Host
from tests.doubles.state import MIB, Process, machine

GPUS, PROCESSES, SAMPLES = 8, 50, 200

_SAMPLE = """
import asyncio, json, sys, time
from tfgpu_kernel.server import sampler as module

async def main():
    async def main_pid(container):
        return 0
    module.FRESH_SECONDS = 0
    sampler = module.Sampler(set, main_pid, every=3600)
    await sampler.latest()
    costs = []
    for _ in range(int(sys.argv[1])):
        then = time.process_time()
        await sampler.latest()
        costs.append(1000 * (time.process_time() - then))
    await sampler.close()
    print(json.dumps(costs))

asyncio.run(main())
"""

_SERVER = """
import asyncio, json, sys, time
from asyncio import events
from jupyter_server.serverapp import ServerApp

lags, spent = [], []
run = events.Handle._run

def timed(handle):
    then = time.thread_time()
    run(handle)
    spent.append(1000 * (time.thread_time() - then))

events.Handle._run = timed

async def probe():
    while True:
        then = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(1000 * (time.perf_counter() - then - 0.005))

async def report(file):
    while True:
        await asyncio.sleep(0.5)
        with open(file, "w") as out:
            json.dump([lags, spent], out)

app = ServerApp.instance()
app.initialize(["--port=0", "--no-browser", "--allow-root", "--IdentityProvider.token=bench",
                f"--ServerApp.root_dir={sys.argv[1]}"])
app.io_loop.add_callback(probe)
app.io_loop.add_callback(report, f"{sys.argv[1]}/lags.txt")
app.start()
"""


@contextmanager
def busy_host(folder: Path) -> Iterator[Host]:
    """Give a machine of eight GPUs with fifty living processes on them."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(PROCESSES)]
    try:
        state = machine(GPUS)
        for index in range(GPUS):
            mine = children[index::GPUS]
            state = state.with_gpu(index, processes=tuple(Process(child.pid, MIB) for child in mine))
        time.sleep(0.1)
        yield Host.make(folder, state)
    finally:
        for child in children:
            child.kill()
            child.wait()


def sample_cost(host: Host) -> dict[str, float]:
    """Return milliseconds of CPU time for one sample, the double's own share included."""
    return _quantiles(json.loads(host.python(_SAMPLE, str(SAMPLES))))


def loop_lag(host: Host, pages: int, seconds: float, folder: Path) -> dict[str, dict[str, float]]:
    """Return by how many milliseconds the server's loop was late while so many pages ask every two seconds.

    ``late`` is what a busy machine has its share in; ``callback_cpu`` is the processor's time of each callback,
    which is what a server itself can keep its loop from.
    """
    folder.mkdir()
    environment = os.environ | host.env | {
        "JUPYTER_RUNTIME_DIR": str(folder), "JUPYTER_CONFIG_DIR": str(folder), "JUPYTER_DATA_DIR": str(folder)
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            url = _address(folder)
            over = time.monotonic() + seconds
            threads = [threading.Thread(target=_page, args=(url, over, number)) for number in range(pages)]
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            for thread in threads:
                thread.join()
            lags, spent = json.loads((folder / "lags.txt").read_text())
        finally:
            server.terminate()
            server.wait()
    # The server's own start is not what is asked.
    return {"late": _quantiles(lags[200:]), "callback_cpu": _quantiles(spent[len(spent) // 10 :])}


def _page(url: str, over: float, number: int) -> None:
    time.sleep(0.3 * number)
    newest = 0.0
    with requests.Session() as session:
        while time.monotonic() < over:
            answer: dict[str, Any] = session.get(
                f"{url}tfgpu/gpus", params={"since": str(newest), "token": "bench"}, timeout=10
            ).json()
            assert len(answer["gpus"]) == GPUS
            newest = answer["history"]["times"][-1] if answer["history"]["times"] else newest
            time.sleep(2)


def _address(folder: Path) -> str:
    for _ in range(600):
        for file in folder.glob("*.json"):
            text = file.read_text()
            if '"url"' in text:
                url = str(json.loads(text)["url"])
                try:
                    if requests.get(f"{url}api/status?token=bench", timeout=5).ok:
                        return url
                except requests.RequestException:
                    pass
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def _quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {
        "count": len(values),
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "max_ms": round(max(values), 2),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="how long pages ask")
    parser.add_argument("--pages", type=int, default=3, help="how many pages ask")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, busy_host(Path(made) / "nvidia") as host:
        figures = {
            "sample_cpu": sample_cost(host),
            "loop_lag_without_pages": loop_lag(host, 0, options.seconds / 3, Path(made) / "quiet"),
            f"loop_lag_with_{options.pages}_pages": loop_lag(
                host, options.pages, options.seconds, Path(made) / "pages"
            ),
            "load_average": os.getloadavg()[0],
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
