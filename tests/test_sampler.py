"""The sampler: history, what it survives, when it works, and what /proc and the cgroups tell."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import state as doubled
from tests.doubles.host import Host
from tests.doubles.state import GIB, MIB, Process, machine
from tfgpu_kernel import attribution, procfs
from tfgpu_kernel.gpu.history import History, Point, Series

ID = "0123456789abcdef" * 4


# -- history -------------------------------------------------------------------------------------------


def test_history_keeps_ten_minutes_however_often_somebody_looks() -> None:
    """Points are at least a pause apart, old ones go, and what is kept is bounded."""
    history = History(every=2)
    for tenth in range(15 * 60 * 10):
        history.add(1000 + tenth / 10, {"GPU": Point(tenth % 100, tenth)})
    times, series = history.since(0)
    assert times[-1] - times[0] <= 600
    assert times[-1] - times[0] > 595
    assert min(b - a for a, b in pairwise(times)) >= 1.6
    assert len(series["GPU"].used_bytes) == len(times) <= 376


def test_history_gives_what_is_new_and_none_where_a_gpu_was_away() -> None:
    """A page asks for what came since; a GPU that was plugged in, or lost, has None at the other times."""
    history = History(every=2)
    history.add(10, {"A": Point(1, 100)})
    history.add(12, {"A": Point(2, 200), "B": Point(None, 5)})
    history.add(14, {"B": Point(7, 6)})
    assert history.since(10) == (
        (12, 14),
        {"A": Series((2, None), (200, None)), "B": Series((None, 7), (5, 6))},
    )
    assert history.since(14) == ((), {})


def test_a_clock_that_is_set_back_starts_a_new_history() -> None:
    """Times in a history only rise."""
    history = History(every=2)
    history.add(100, {})
    history.add(50, {})
    assert history.since(0)[0] == (50,)


# -- /proc and the cgroups -----------------------------------------------------------------------------


def test_a_process_is_looked_up_with_its_start(tmp_path: Path) -> None:
    """The start is read past a program's name with blanks and brackets, and an id that is given anew is noticed."""

    def put(container: str, ticks: int) -> None:
        folder = tmp_path / "42"
        folder.mkdir(exist_ok=True)
        (folder / "cgroup").write_text(f"0::/docker/{container}\n")
        fields = " ".join(str(number) for number in range(4, 22))
        (folder / "stat").write_text(f"42 (a ) b (c) S {fields} {ticks} 9 9 9\n")

    processes = procfs.Processes(tmp_path)
    put(ID, 250)
    assert processes.look_up([42, 43]) == {42: attribution.Process((ID,), 2.5)}
    put(ID[::-1], 300)
    assert processes.look_up([42])[42] == attribution.Process((ID[::-1],), 3.0)


def test_the_start_of_a_real_process_is_on_the_clock_that_is_compared_with() -> None:
    """A process that starts between two readings of the clock has a start between them, to the tick."""
    before = procfs.since_boot()
    with subprocess.Popen(["sleep", "30"]) as child:
        process = procfs.Processes().look_up([child.pid])[child.pid]
        child.kill()
    assert before - 0.011 <= process.started <= procfs.since_boot()


V1 = "39 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
HYBRID = V1 + "41 31 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        (f"4:memory:/docker/{ID}\n1:cpu:/x\n0::/\n", HYBRID, f"/sys/fs/cgroup/memory/docker/{ID}"),
        (f"0::/system.slice/docker-{ID}.scope\n", V2, f"/sys/fs/cgroup/system.slice/docker-{ID}.scope"),
        (f"0::/../docker-{ID}.scope\n", V2, None),
        (
            f"4:memory:/outer/docker/{ID}\n",
            V1.replace("0:35 / ", "0:35 /outer "),
            f"/sys/fs/cgroup/memory/docker/{ID}",
        ),
        (f"4:memory:/docker/{ID}\n", "25 1 8:1 / / rw - ext4 /dev/vda rw\n", None),
    ],
)
def test_where_a_containers_memory_is(cgroup: str, mountinfo: str, expected: str | None) -> None:
    """Version 1, 2 and both at once, the whole tree or a part of it; None where it is out of sight."""
    found = procfs.memory_folder(cgroup, mountinfo)
    assert found == (Path(expected) if expected else None)


def test_memory_is_what_the_kernel_can_not_take_back(tmp_path: Path) -> None:
    """Idle file pages are not counted; version 1's no limit, and version 2's, are None."""
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    (first / "memory.usage_in_bytes").write_text("1000\n")
    (first / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (first / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 300\n")
    assert procfs.memory(first) == procfs.Memory(700, None)
    (first / "memory.limit_in_bytes").write_text("4000\n")
    assert procfs.memory(first) == procfs.Memory(700, 4000)
    (second / "memory.current").write_text("1000\n")
    (second / "memory.max").write_text("max\n")
    (second / "memory.stat").write_text("anon 5\ninactive_file 400\n")
    assert procfs.memory(second) == procfs.Memory(600, None)
    assert procfs.memory(tmp_path / "gone") is None


def test_foreign_process_ids_are_noticed() -> None:
    """Where the id that the engine tells is another process for us, nothing is attributed by it."""
    with pytest.raises(LookupError):
        procfs.container_memory_folder(os.getpid(), ID)


# -- the sampler, each case in a process that sees the doubled driver ----------------------------------

_PRELUDE = """
import asyncio, json, os, sys, threading, time
from pathlib import Path
from tfgpu_kernel.server import sampler as module
from tfgpu_kernel.server.sampler import Sampler

containers = set()
changes = []
async def main_pid(container):
    return 0
def make(every=0.1):
    return Sampler(lambda: containers, main_pid, lambda: changes.append(time.monotonic()), every)
def show(moment):
    gpus = [gpu.index for gpu in moment.sample.gpus] if moment.sample else None
    return [gpus, moment.cause]
"""


def run(host: Host, body: str, *arguments: str) -> Any:
    """Run a coroutine's body in a fresh process that sees the doubled driver; return what it printed, as JSON."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return json.loads(host.python(f"{_PRELUDE}\nasync def main():\n{lines}\nasyncio.run(main())\n", *arguments))


def test_lost_gpus_drivers_and_new_gpus_are_survived(tmp_path: Path) -> None:
    """One sampler sees a GPU fall off, the driver go, both come back, one more GPU, and hints each change."""
    host = Host.make(tmp_path, machine(2))
    states = {
        "lost": machine(2).with_gpu(1, errors={doubled.EVERY: doubled.GPU_IS_LOST}),
        "gone": machine(2, errors={doubled.EVERY: doubled.DRIVER_NOT_LOADED}),
        "more": machine(3),
    }
    for name, state in states.items():
        state.write(tmp_path / name)
    seen, changes = run(
        host,
        """
sampler = make()
module.FRESH_SECONDS = 0
seen = [show(await sampler.latest())]
for name in sys.argv[2:]:
    os.replace(name, sys.argv[1])
    seen.append(show(await sampler.latest()))
await sampler.close()
print(json.dumps([seen, len(changes)]))
""",
        *(str(tmp_path / name) for name in ("state", "lost", "gone", "more")),
    )
    assert [gpus for gpus, _ in seen] == [[0, 1], [0], None, [0, 1, 2]]
    assert "not loaded" in seen[2][1]
    assert changes == 3


def test_it_works_while_somebody_looks_or_a_kernel_lives(tmp_path: Path) -> None:
    """It starts with a look, goes on by itself, stops some time after the last one, not while a kernel lives."""
    seen = run(
        Host.make(tmp_path, machine(1)),
        """
module.LOOKED_SECONDS = 1

async def stopped():
    for _ in range(200):
        if not sampler.works:
            return True
        await asyncio.sleep(0.05)
    return False

sampler = make()
seen = [sampler.works]
await sampler.latest()
seen.append(sampler.works)
seen += [await stopped(), len(sampler.history.since(0)[0]) >= 3]
containers.add("a" * 64)
sampler.wake()
await asyncio.sleep(1.5)
seen.append(sampler.works)
containers.clear()
seen.append(await stopped())
await sampler.close()
print(json.dumps(seen))
""",
    )
    assert seen == [False, True, True, True, True, True]


def test_many_who_look_cost_one_sample(tmp_path: Path) -> None:
    """Twenty pages that ask at once get one sample's answer, and a fresh one is given again."""
    same = run(
        Host.make(tmp_path, machine(1)),
        """
sampler = make(every=60)
moments = await asyncio.gather(*(sampler.latest() for _ in range(20)))
again = await sampler.latest()
await sampler.close()
print(json.dumps(len({id(moment) for moment in [*moments, again]})))
""",
    )
    assert same == 1


def test_a_driver_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """While NVML hangs, who asks soon has the last figures, and the cause once the driver's time is over.

    The loop turns, and one thread waits.
    """
    host = Host.make(tmp_path, machine(1))
    replace(machine(1), delays={"nvmlDeviceGetCount_v2": 5_000}).write(tmp_path / "hung")
    waited, lag, shown, threads, later = run(
        host,
        """
module.FRESH_SECONDS, module.PATIENCE_SECONDS, module.nvml.PATIENCE_SECONDS = 0, 0.3, 1.5
sampler = make(every=60)
await sampler.latest()
os.replace(sys.argv[2], sys.argv[1])
worst = 0.0
async def beat():
    nonlocal worst
    while True:
        then = time.perf_counter()
        await asyncio.sleep(0.01)
        worst = max(worst, time.perf_counter() - then - 0.01)
beating = asyncio.create_task(beat())
then = time.perf_counter()
moments = await asyncio.gather(*(sampler.latest() for _ in range(5)))
waited = time.perf_counter() - then
beating.cancel()
threads = sum(thread.name == "tfgpu-nvml" for thread in threading.enumerate())
await asyncio.sleep(1.5)
late = await sampler.latest()
print(json.dumps([waited, worst, show(moments[0]), threads, late.cause]), flush=True)
os._exit(0)
""",
        str(tmp_path / "state"),
        str(tmp_path / "hung"),
    )
    assert waited < 2
    assert lag < 0.25
    assert shown == [[0], ""]
    assert later == "NVML gave no answer within 1.5 s; a GPU may be in trouble"
    assert threads == 1


def test_an_idle_sampler_leaves_the_driver_alone(tmp_path: Path) -> None:
    """NVML is kept open between samples and closed when nobody looks any more, so that a driver can be changed."""
    opened = run(
        Host.make(tmp_path, machine(1)),
        """
import pynvml
module.LOOKED_SECONDS = 0.4
def is_open():
    try:
        pynvml.nvmlDeviceGetCount()
        return True
    except pynvml.NVMLError:
        return False
sampler = make()
await sampler.latest()
opened = [is_open()]
await asyncio.sleep(1)
opened.append(is_open())
print(json.dumps(opened))
""",
    )
    assert opened == [True, False]


def test_a_sample_with_its_processes_is_cheap(tmp_path: Path) -> None:
    """A whole sample of 8 GPUs with 50 processes that live costs at most 3 ms of CPU, the double's share included."""
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(50)]
    try:
        state = machine(8)
        for index in range(8):
            mine = children[index::8]
            state = state.with_gpu(index, processes=tuple(Process(child.pid, MIB) for child in mine))
        time.sleep(0.05)
        cost, found = run(
            Host.make(tmp_path, state),
            """
sampler = make(every=60)
module.FRESH_SECONDS = 0
await sampler.latest()
medians = []
while len(medians) < 10 and min(medians, default=9) > 3:  # a machine may be slow for some seconds
    await asyncio.sleep(0.5 if medians else 0)
    costs = []
    for _ in range(50):
        then = time.process_time()
        moment = await sampler.latest()
        costs.append((time.process_time() - then) * 1000)
    medians.append(sorted(costs)[25])
others = sum(usage.others for usage in moment.usages.values())
await sampler.close()
print(json.dumps([min(medians), others]))
""",
        )
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert found == 50
    assert cost <= 3, f"{cost:.2f} ms"


def test_history_of_use_and_memory_is_noted(tmp_path: Path) -> None:
    """What NVML tells of use and memory is in the history, by UUID."""
    state = machine(1).with_gpu(0, used_bytes=3 * GIB, utilisation_percent=41)
    series = run(
        Host.make(tmp_path, state),
        """
sampler = make()
await sampler.latest()
times, series = sampler.history.since(0)
await sampler.close()
print(json.dumps({uuid: [one.use_percent, one.used_bytes] for uuid, one in series.items()}))
""",
    )
    assert series == {state.gpus[0].uuid: [[41], [3 * GIB]]}
