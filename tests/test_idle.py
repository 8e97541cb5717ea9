"""Which idle kernels are warned of and shut down, judged on made-up figures, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from tfgpu_kernel import obituaries
from tfgpu_kernel.attribution import Share, Usage
from tfgpu_kernel.gpu.nvml import Gpu, Memory, Sample
from tfgpu_kernel.server.culled import Culled
from tfgpu_kernel.server.idle import Hold, Idle, hold
from tfgpu_kernel.server.roster import Resident, Roster
from tfgpu_kernel.server.sampler import Moment

pytest_plugins = ["pytest_jupyter.jupyter_server"]  # runs asynchronous tests

GIB = 2**30


def resident(name: str = "k1", *, idle: float | None = 0.0, **more: Any) -> Resident:
    """Return a notebook's kernel with GPU 1, an hour's timeout and ten minutes' warning."""
    made = Resident(
        name, "tfgpu", f"{name}.ipynb", "notebook", "idle", idle, f"container-{name}", ("GPU-1",), 3600.0, 600.0
    )
    return replace(made, **more)


def moment(*shares: Share, use: int = 0, others: int = 0, **more: Any) -> Moment:
    """Return a machine of one GPU, number 1, with these on it."""
    sample = Sample("1", (Gpu(1, "GPU-1", "A100", (8, 0), Memory(100, 60, 40, 0), use),))
    return Moment(0.0, sample, usages={"GPU-1": Usage(shares, 0, others)}, **more)


def mine(used: int | None = 3 * GIB, name: str = "k1") -> Share:
    """Return what a kernel holds."""
    return Share(f"container-{name}", used, 1)


@pytest.mark.parametrize(
    ("held", "kernel", "machine"),
    [
        (Hold((1,), 3 * GIB, working=False), resident(), moment(mine())),
        (None, resident(gpus=()), moment()),
        (None, resident(), moment()),
        (Hold((1,), 0, working=False), resident(exclusive=True), moment()),
        (Hold((1,), None, working=False), resident(), moment(mine(None))),
        (Hold((1,), None, working=False), resident(), moment(sees_processes=False)),
        (Hold((), None, working=False), resident(), Moment(0.0, None, "the driver hangs")),
        (Hold((1,), 3 * GIB, working=True), resident(), moment(mine(), use=40)),
        (Hold((1,), 3 * GIB, working=False), resident(), moment(mine(), mine(GIB, "k2"), use=40)),
        (Hold((1,), 3 * GIB, working=False), resident(), moment(mine(), use=40, others=1)),
    ],
    ids=[
        "memory counts",
        "no GPU was granted",
        "a shared GPU with nothing on it frees nothing",
        "one of its own is kept from others",
        "what the driver doesn't tell counts",
        "what the server can't see counts",
        "a driver that hangs proves nothing",
        "a GPU that computes for this kernel alone",
        "one that computes, perhaps for another kernel",
        "one that computes, perhaps for a foreign process",
    ],
)
def test_what_counts_as_holding_a_gpu(held: Hold | None, kernel: Resident, machine: Moment) -> None:
    """Only what would be free again counts; and a GPU that works for the kernel alone says that it works."""
    assert hold(kernel, machine) == held


@dataclass
class Server:
    """A server's kernels as the watch sees them."""

    kernels: list[Resident]
    seen: Moment
    ended: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    meanwhile: Callable[[], object] = bool
    """What happens while a kernel is being shut down."""

    def frees_gpus(self) -> bool:
        return any(kernel.idle_timeout > 0 for kernel in self.kernels)

    async def residents(self) -> Sequence[Resident]:
        return self.kernels

    def idle_seconds(self, kernel_id: str) -> float | None:
        return next((one.idle_seconds for one in self.kernels if one.kernel_id == kernel_id), None)

    async def latest(self) -> Moment:
        return self.seen

    async def shutdown_kernel(self, kernel_id: str) -> None:
        self.meanwhile()
        if kernel_id in self.refuses:
            raise RuntimeError("it can't be shut down")
        self.ended.append(kernel_id)
        self.kernels = [kernel for kernel in self.kernels if kernel.kernel_id != kernel_id]

    def idle(self) -> Idle:
        return Idle(self, self, self, self.hints.append)  # type: ignore[arg-type]

    def is_idle_for(self, seconds: float | None) -> None:
        self.kernels = [replace(kernel, idle_seconds=seconds) for kernel in self.kernels]


async def two_that_are_over(server: Server) -> Idle:
    """Return the watch of two kernels whose time is over at 10600."""
    server.kernels = [resident("k1", idle=3000), resident("k2", idle=3000)]
    server.seen = moment(mine(), mine(name="k2"))
    watch = server.idle()
    await watch.look(10_000)
    assert len(watch.warnings()) == 2
    server.is_idle_for(3600)
    return watch


async def test_warned_then_ended_and_told() -> None:
    """Fifty minutes idle: the warning, with the notebook and what it holds; an hour: the end, and why."""
    server = Server([resident(idle=2000)], moment(mine()))
    watch = server.idle()
    assert await watch.look(10_000) == 1000 and watch.warnings() == []
    server.is_idle_for(3000)
    assert await watch.look(11_000) == 600
    [warning] = watch.warnings()
    assert (warning.path, warning.gpus, warning.used_bytes, warning.ends) == ("k1.ipynb", (1,), 3 * GIB, 11_600)
    server.is_idle_for(3599)
    await watch.look(11_599)
    assert server.ended == []
    server.is_idle_for(3600)
    await watch.look(11_600)
    assert server.ended == ["k1"] and watch.warnings() == [] and server.hints == ["k1", "k1"]
    account = obituaries.recent()[-1].account
    assert account.code == "gpu-freed"
    assert "held GPU 1 (3.0 GiB) and had done nothing for 60 min" in account.message


async def test_nobody_ends_unwarned() -> None:
    """A kernel that was idle for hours before the server looked still gets its ten minutes."""
    server = Server([resident(idle=90_000)], moment(mine()))
    watch = server.idle()
    await watch.look(100_000)
    assert watch.warnings()[0].ends == 100_600 and server.ended == []
    server.is_idle_for(90_500)
    await watch.look(100_500)
    assert server.ended == []


async def test_work_withdraws_the_warning() -> None:
    """A busy kernel is never ended, nor is one that worked meanwhile, nor one whose GPU computes for it alone."""
    server = Server([resident(idle=3500)], moment(mine()))
    watch = server.idle()
    await watch.look(10_000)
    assert watch.warnings()
    server.is_idle_for(None)
    await watch.look(20_000)
    assert watch.warnings() == [] and server.ended == []
    server.is_idle_for(3500)
    await watch.look(30_000)
    server.is_idle_for(5)
    await watch.look(30_600)
    assert watch.warnings() == [] and server.ended == []
    server.is_idle_for(5000)
    server.seen = moment(mine(), use=30)
    await watch.look(40_000)
    assert watch.warnings() == []
    server.seen = moment(mine())
    await watch.look(42_000)
    assert watch.warnings() == [], "it computed 2000 s ago"


@pytest.mark.parametrize("seconds", [None, 1.0], ids=["works", "has worked"])
async def test_a_cell_that_is_run_while_another_kernel_is_shut_down(seconds: float | None) -> None:
    """Two kernels' time is over in one look; a cell is run in the second while the first ends: it lives on."""
    server = Server([], moment())
    watch = await two_that_are_over(server)
    server.meanwhile = lambda: server.is_idle_for(seconds)
    assert await watch.look(10_600) == 0
    await watch.look(10_601)
    assert server.ended == ["k1"] and watch.warnings() == []


@pytest.mark.parametrize("seconds", [None, 1.0], ids=["works", "has worked"])
async def test_a_cell_that_is_run_while_the_driver_is_asked(seconds: float | None) -> None:
    """What Jupyter says of a kernel is from before the driver answered, which may take seconds; it is asked anew."""
    server = Server([], moment())
    watch = await two_that_are_over(server)

    async def latest() -> Moment:
        server.is_idle_for(seconds)
        return server.seen

    server.latest = latest  # type: ignore[method-assign]
    await watch.look(10_600)
    assert server.ended == []


async def test_kept_while_another_kernel_cannot_be_shut_down() -> None:
    """The first can't be shut down, which takes its time; Keep It, pressed meanwhile for the second, counts."""
    server = Server([], moment(), refuses={"k1"})
    watch = await two_that_are_over(server)
    server.meanwhile = lambda: watch.keep("k2")
    await watch.look(10_600)
    assert server.ended == []


async def test_one_that_cannot_be_shut_down_stops_no_other() -> None:
    """The second ends, and the first is tried again at the next look."""
    server = Server([], moment(), refuses={"k1"})
    watch = await two_that_are_over(server)
    await watch.look(10_600)
    assert server.ended == ["k2"]
    server.refuses = set()
    server.is_idle_for(3605)
    await watch.look(10_605)
    assert server.ended == ["k2", "k1"]


async def test_those_that_are_left_idle_end_one_look_after_the_other() -> None:
    """The next look comes at once, and sees what the first shutdown left."""
    server = Server([], moment())
    watch = await two_that_are_over(server)
    assert await watch.look(10_600) == 0
    assert server.ended == ["k1"]
    await watch.look(10_601)
    assert server.ended == ["k1", "k2"]


@pytest.mark.parametrize(
    ("state", "idle"),
    [("idle", True), ("starting", True), ("busy", False), ("restarting", False), ("dead", False)],
)
def test_how_long_a_kernel_is_idle_is_read_at_that_moment(state: str, idle: bool) -> None:
    """From Jupyter's manager itself; one that works, or is gone, is not idle."""
    active = datetime.now(timezone.utc) - timedelta(seconds=100)
    managers = {"k1": SimpleNamespace(execution_state=state, last_activity=active)}
    roster = Roster(SimpleNamespace(get_kernel=managers.__getitem__), None)  # type: ignore[arg-type]
    found = roster.idle_seconds("k1")
    assert found is not None and 100 <= found < 110 if idle else found is None
    assert roster.idle_seconds("gone") is None


async def test_a_kept_kernel_has_its_whole_time_anew() -> None:
    """Keep It counts as work; there is nothing to keep where nothing was warned of."""
    server = Server([resident(idle=3500)], moment(mine()))
    watch = server.idle()
    assert not watch.keep("k1")
    await watch.look(10_000)
    assert watch.keep("k1") and not watch.keep("k1") and watch.warnings() == []
    watch._worked["k1"] = 10_000
    server.is_idle_for(6000)
    await watch.look(12_500)
    assert watch.warnings() == []
    server.is_idle_for(6600)
    await watch.look(13_100)
    assert watch.warnings()[0].ends == 13_700


async def test_off_by_default() -> None:
    """Without the setting nothing is warned of or ended, however idle, and the driver isn't asked."""
    server = Server([resident(idle=10**6, idle_timeout=0.0)], moment(mine()))
    server.latest = None  # type: ignore[method-assign, assignment]
    watch = server.idle()
    await watch.look(10**7)
    assert watch.warnings() == [] and server.ended == []


@dataclass
class Jupyter:
    """A kernel manager that culls what is in ``idle``."""

    running: set[str]
    idle: set[str]

    def __contains__(self, kernel_id: str) -> bool:
        return kernel_id in self.running

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        self.running -= {kernel_id} & self.idle


async def test_what_jupyter_culls_is_told() -> None:
    """A container's kernel that Jupyter culls gets its account; one that stays, is dead or not ours, none."""
    kernels = [
        resident("culled", idle=3700),
        resident("stays", idle=3700),
        resident("died", state="dead"),
        resident("host", container=""),
    ]
    jupyter = Jupyter({kernel.kernel_id for kernel in kernels}, {"culled", "died", "host"})
    cull = Culled(jupyter, Server(kernels, moment()))
    before = obituaries.recent()
    for kernel in kernels:
        await cull(kernel.kernel_id)
    [told] = obituaries.recent()[len(before) :]
    assert jupyter.running == {"stays"}
    assert (told.kernel_id, told.notebook, told.account.code) == ("culled", "culled.ipynb", "kernel-culled")
    assert "because it had done nothing for 62 min (cull_idle_timeout)" in told.account.message
