"""Random steps on many kernels of a real server and engine, faults among them, compared with a model of what is so."""

from __future__ import annotations

import functools
import os
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.live.conftest import install

from .daemons import Faulty, faulty
from .serving import Server

MOST_KERNELS = 6
SECONDS = 120.0
"""A busy machine is slow, and that is no difference from the model."""
LISTING = ("docker", "ps", "--filter", "label=io.tfgpu.kind=kernel", "--format", '{{.ID}} {{.Label "io.tfgpu.run"}}')


def deeds(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return what draws one of these for each of some kernels, with a number to do it with."""
    return st.lists(
        st.tuples(st.sampled_from(names), st.integers(1, 3000)), min_size=1, max_size=MOST_KERNELS
    )  # fmt: skip


@dataclass
class Kernel:
    """What the model knows of a kernel: its session, and what its variable holds."""

    session: str
    id: str
    x: int | None
    killed: bool = False
    """Whether it was killed since somebody started it: one that dies again and again isn't started for ever."""
    ended: bool = False


Step = TypeVar("Step", bound=Callable[..., None])


def noted(step: Step) -> Step:
    """Keep what the first failure was: hypothesis tries it once more, and on a real machine that is another story."""

    @functools.wraps(step)
    def wrapped(self: Steps, **drawn: object) -> None:
        if Steps.failure is not None:
            raise Steps.failure
        try:
            step(self, **drawn)
        except Exception as failure:
            traceback.print_exc()
            Steps.failure = failure
            raise

    return wrapped  # type: ignore[return-value]


class Steps(RuleBasedStateMachine):
    """The model, and the steps that change it and the real thing alike.

    What users do they do at the same time, each with a kernel of their own: a step is one deed with one kernel, or one
    fault of the server or the engine. Comparing afterwards counts for none.
    """

    server: Server
    engine: Faulty | None
    taken: ClassVar[Counter[str]] = Counter()
    """How many steps of which kind were taken."""
    failure: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []

    def ask(self, kernel: Kernel, code: str) -> str:
        """Run a cell from a page of its own; return what it says."""
        with self.server.page(kernel.id) as page:
            return page.run(code)

    def look(self, kernel: Kernel) -> None:
        """Compare the kernel's variable with the model's."""
        wanted = "NameError" if kernel.x is None else f"{kernel.x}\n"
        assert self.ask(kernel, "print(x)") == wanted

    def look_at_all(self) -> None:
        """Compare all kernels, at the same time."""
        with ThreadPoolExecutor(MOST_KERNELS) as users:
            list(users.map(self.look, self.kernels))

    def act(self, deeds: Sequence[tuple[str, int]]) -> None:
        """Have each user do one of these with a kernel of their own, all at the same time."""
        with ThreadPoolExecutor(MOST_KERNELS) as users:
            done = [
                users.submit(getattr(self, f"_{deed}"), kernel, number)
                for kernel, (deed, number) in zip(self.kernels, deeds, strict=False)
            ]
        Steps.taken.update(deed for deed, _ in deeds[: len(done)])
        for one in done:
            one.result()
        self.kernels = [kernel for kernel in self.kernels if not kernel.ended]

    # -- what users do ------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.kernels) < MOST_KERNELS)
    @rule(names=st.lists(st.sampled_from(["claimed", "cold"]), min_size=1, max_size=3))
    @noted
    def start(self, names: list[str]) -> None:
        """Kernels begin: a claimed one knows nothing of its time of waiting either."""

        def begin(number: int, name: str) -> Kernel:
            model = self.server.session(f"{Steps.taken.total()}-{number}.ipynb", name)
            kernel = Kernel(model["id"], model["kernel"]["id"], None)
            self.look(kernel)
            return kernel

        chosen = names[: MOST_KERNELS - len(self.kernels)]
        with ThreadPoolExecutor(MOST_KERNELS) as users:
            self.kernels.extend(users.map(begin, range(len(chosen)), chosen))
        Steps.taken.update(chosen)

    @precondition(lambda self: self.kernels)
    @rule(deeds=deeds("set", "read", "write", "fail"))
    @noted
    def run_cells(self, deeds: list[tuple[str, int]]) -> None:
        """Cells run."""
        self.act(deeds)

    @precondition(lambda self: self.kernels)
    @rule(deeds=deeds("set", "interrupt", "restart"))
    @noted
    def go_on(self, deeds: list[tuple[str, int]]) -> None:
        """Kernels are interrupted and restarted, while cells of others run."""
        self.act(deeds)

    @precondition(lambda self: self.kernels)
    @rule(deeds=deeds("write", "kill", "read", "interrupt", "shut_down"))
    @noted
    def end(self, deeds: list[tuple[str, int]]) -> None:
        """Kernels end, one way or another, while cells of others run."""
        self.act(deeds)

    def _set(self, kernel: Kernel, number: int) -> None:
        """A cell runs."""
        assert self.ask(kernel, f"x = {number}") == ""
        kernel.x = number

    def _read(self, kernel: Kernel, _: int) -> None:
        """A cell prints what is known."""
        self.look(kernel)

    def _write(self, kernel: Kernel, number: int) -> None:
        """A cell prints much, and all arrives in order."""
        wanted = "".join(f"{n}\n" for n in range(number))
        assert self.ask(kernel, f"for n in range({number}): print(n)") == wanted

    def _fail(self, kernel: Kernel, _: int) -> None:
        """A cell fails, and changes nothing."""
        assert self.ask(kernel, "1 / 0") == "ZeroDivisionError"

    def _interrupt(self, kernel: Kernel, _: int) -> None:
        """A cell that doesn't end is interrupted; what the kernel knows stays."""
        with self.server.page(kernel.id) as page:
            request = page.send("import time\nprint('runs', flush=True)\nwhile True: time.sleep(0.05)")
            page.until(request, lambda text: "runs\n" in text)
            self.server.call("POST", f"api/kernels/{kernel.id}/interrupt")
            assert page.until(request) == "KeyboardInterrupt"
        self.look(kernel)

    def _restart(self, kernel: Kernel, _: int) -> None:
        """A restarted kernel knows nothing, and keeps its id."""
        self.server.call("POST", f"api/kernels/{kernel.id}/restart")
        kernel.x, kernel.killed = None, False
        self.look(kernel)

    def _shut_down(self, kernel: Kernel, _: int) -> None:
        """A session ends, and its kernel."""
        self.server.call("DELETE", f"api/sessions/{kernel.session}")
        kernel.ended = True

    def _kill(self, kernel: Kernel, _: int) -> None:
        """A kernel's container is killed: the kernel is started again by itself, under its id, and knows nothing."""
        if not kernel.killed:
            container = self.container(kernel)
            subprocess.run(["docker", "kill", container], check=True, capture_output=True)
            deadline = time.monotonic() + SECONDS
            while self.container(kernel) in {container, ""}:
                assert time.monotonic() < deadline, "not started again"
                time.sleep(0.2)
            kernel.x, kernel.killed = None, True
        self.look(kernel)

    # -- what happens to all of them; each takes its time, so it isn't often -----------------------------------

    @precondition(lambda self: self.kernels)
    @rule(chance=st.integers(1, 4))
    @noted
    def crash(self, chance: int) -> None:
        """The server is killed; the next one has the same sessions and kernels, which lost nothing."""
        if chance == 3:
            self.server.kill()
            self.server.start()
            Steps.taken["the server killed"] += 1
        self.look_at_all()

    @precondition(lambda self: self.engine is not None and self.kernels)
    @rule()
    @noted
    def hang(self) -> None:
        """The engine hangs: cells go on."""
        assert self.engine is not None
        with self.engine.hung():
            self.look_at_all()
            time.sleep(0.3)
        Steps.taken["the engine hung"] += 1

    @precondition(lambda self: self.engine is not None and self.kernels)
    @rule(chance=st.integers(1, 4))
    @noted
    def lose_engine(self, chance: int) -> None:
        """The engine is killed and comes back, with live-restore: no kernel notices."""
        assert self.engine is not None
        if chance == 3:
            self.engine.kill()
            self.look_at_all()
            self.engine.start()
            Steps.taken["the engine killed"] += 1
        self.look_at_all()

    # -- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    @noted
    def the_same_sessions(self) -> None:
        """The server has the model's sessions with their kernels, no more and no fewer."""
        assert self.server.sessions() == {kernel.session: kernel.id for kernel in self.kernels}

    def container(self, kernel: Kernel) -> str:
        """Return the id of the container that a kernel runs in; empty where none runs."""
        runs = dict(
            line.split()[::-1] for line in subprocess.run(LISTING, check=True, capture_output=True, text=True)
            .stdout.splitlines()
        )  # fmt: skip
        for state in self.server.root.parent.glob("runtime/tfgpu/*/state.json"):
            try:
                if kernel.id in state.read_text():
                    names = {os.path.realpath(run): made for run, made in runs.items()}
                    return names.get(os.path.realpath(state.parent), "")
            except OSError:
                continue  # replaced just now
        return ""

    def teardown(self) -> None:
        """End all that the example started; nothing of it may be left."""
        for kernel in self.kernels:
            self.server.call("DELETE", f"api/sessions/{kernel.session}", check=False)
        assert self.server.sessions() == {}
        print(f"{Steps.taken.total()} steps: {dict(Steps.taken)}", flush=True)


def explore(server: Server, engine: Faulty | None, rows: int, turns: int, *, same: bool) -> None:
    """Take so many rows of random turns, the same each time or not, each from a server without kernels.

    Hypothesis begins with the simplest of all rows, so one alone would be no random one.
    """
    Steps.server, Steps.engine, Steps.failure = server, engine, None
    chosen = settings(
        max_examples=rows,
        stateful_step_count=turns,
        deadline=None,
        database=None,
        derandomize=same,
        phases=[Phase.generate],  # looking for a smaller example would take as long again, and again
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Steps, settings=chosen)
    except Exception:
        if Steps.failure is not None:
            raise Steps.failure from None
        raise


@pytest.fixture
def specs(kernels: Path, slim: str) -> None:
    """Make a kernelspec whose kernels wait ready to be claimed, and one whose kernels start cold."""
    for name, ready in (("claimed", "1"), ("cold", "0")):
        install(
            kernels.parents[1], name, "--image", slim, "--gpus", "none", "--network", "none", "--pool-size", ready
        )  # fmt: skip


def test_some_random_steps(server: Server, specs: None) -> None:
    """A few steps without faults of the engine."""
    Steps.taken.clear()
    explore(server, None, rows=2, turns=4, same=True)
    assert Steps.taken.total() >= 5


@pytest.fixture
def own_engine(slim: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Start an engine that can be hung and killed; the server and the docker command use it."""
    with faulty("--live-restore", image=slim) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.daemon.host)
        yield engine
        monkeypatch.undo()


@pytest.mark.nightly
@pytest.mark.timeout(3 * 3600)
def test_two_thousand_random_steps(own_engine: Faulty, kernels: Path, specs: None, workspace: Path) -> None:
    """2,000 steps, faults of the engine and of the server among them, without a difference from the model; afterwards
    no container and no run folder is left."""
    wanted = int(os.environ.get("TFGPU_RANDOM_STEPS", "2000"))
    server = Server(workspace, patience=SECONDS)
    server.start()
    try:
        Steps.taken.clear()
        while Steps.taken.total() < wanted:
            explore(server, own_engine, rows=6, turns=40, same=False)
        server.stop()
        assert subprocess.run(LISTING, check=True, capture_output=True).stdout == b""
        assert list(workspace.parent.glob("runtime/tfgpu/*")) == []
    finally:
        server.end()
