"""Random steps on many kernels of a real server and engine, faults among them, compared with a model of what is so."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.live.conftest import install

from .daemons import Faulty, faulty
from .serving import Server

MOST_KERNELS = 5
SECONDS = 120.0
"""A busy machine is slow, and that is no difference from the model."""
LISTING = ("docker", "ps", "--filter", "label=io.tfgpu.kind=kernel", "--format", '{{.ID}} {{.Label "io.tfgpu.run"}}')


@dataclass
class Kernel:
    """What the model knows of a kernel: its session, and what its variable holds."""

    session: str
    id: str
    x: int | None
    killed: bool = False
    """Whether it was killed since somebody started it: one that dies again and again isn't started for ever."""


class Steps(RuleBasedStateMachine):
    """The model, and the steps that change it and the real thing alike."""

    server: Server
    engine: Faulty | None
    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.made = 0
        self.begun = False

    def choose(self, pick: int) -> Kernel:
        """Return one of the kernels."""
        return self.kernels[pick % len(self.kernels)]

    def ask(self, kernel: Kernel, code: str) -> str:
        """Run a cell from a page of its own; return what it says."""
        with self.server.page(kernel.id) as page:
            return page.run(code)

    def look(self, kernel: Kernel) -> None:
        """Compare the kernel's variable with the model's."""
        wanted = "NameError" if kernel.x is None else f"{kernel.x}\n"
        assert self.ask(kernel, "print(x)") == wanted

    # -- what users do ------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.kernels) < MOST_KERNELS)
    @rule(name=st.sampled_from(["claimed", "cold"]))
    def start(self, name: str) -> None:
        """A kernel begins: a claimed one knows nothing of its time of waiting either."""
        self.made += 1
        model = self.server.session(f"{Steps.count}-{self.made}.ipynb", name)
        self.kernels.append(Kernel(model["id"], model["kernel"]["id"], None))
        self.look(self.kernels[-1])

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99), x=st.integers(0, 9999))
    def set(self, pick: int, x: int) -> None:
        """A cell runs."""
        kernel = self.choose(pick)
        assert self.ask(kernel, f"x = {x}") == ""
        kernel.x = x

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99))
    def read(self, pick: int) -> None:
        """A cell prints what is known."""
        self.look(self.choose(pick))

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99), lines=st.integers(1, 3000))
    def write(self, pick: int, lines: int) -> None:
        """A cell prints much, and all arrives in order."""
        wanted = "".join(f"{n}\n" for n in range(lines))
        assert self.ask(self.choose(pick), f"for n in range({lines}): print(n)") == wanted

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99))
    def fail(self, pick: int) -> None:
        """A cell fails, and changes nothing."""
        assert self.ask(self.choose(pick), "1 / 0") == "ZeroDivisionError"

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99))
    def interrupt(self, pick: int) -> None:
        """A cell that doesn't end is interrupted; what the kernel knows stays."""
        kernel = self.choose(pick)
        with self.server.page(kernel.id) as page:
            request = page.send("import time\nprint('runs', flush=True)\nwhile True: time.sleep(0.05)")
            page.until(request, lambda text: "runs" in text)
            self.server.call("POST", f"api/kernels/{kernel.id}/interrupt")
            assert page.until(request) == "KeyboardInterrupt"
        self.look(kernel)

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99))
    def restart(self, pick: int) -> None:
        """A restarted kernel knows nothing, and keeps its id."""
        kernel = self.choose(pick)
        self.server.call("POST", f"api/kernels/{kernel.id}/restart")
        kernel.x, kernel.killed = None, False
        self.look(kernel)

    @precondition(lambda self: self.kernels)
    @rule(pick=st.integers(0, 99))
    def shut_down(self, pick: int) -> None:
        """A session ends, and its kernel."""
        kernel = self.choose(pick)
        self.server.call("DELETE", f"api/sessions/{kernel.session}")
        self.kernels.remove(kernel)

    # -- what happens to them; rarer, since each takes its time -----------------------------------------------

    @precondition(lambda self: any(not kernel.killed for kernel in self.kernels))
    @rule(pick=st.integers(0, 99), odds=st.integers(0, 2))
    def kill(self, pick: int, odds: int) -> None:
        """A kernel's container is killed: the kernel is started again by itself, under its id, and knows nothing."""
        living = [kernel for kernel in self.kernels if not kernel.killed]
        kernel = living[pick % len(living)]
        if odds == 0:
            container = self.container(kernel)
            subprocess.run(["docker", "kill", container], check=True, capture_output=True)
            deadline = time.monotonic() + SECONDS
            while self.container(kernel) in {container, ""}:
                assert time.monotonic() < deadline, "not started again"
                time.sleep(0.2)
            kernel.x, kernel.killed = None, True
        self.look(kernel)

    @precondition(lambda self: self.kernels)
    @rule(odds=st.integers(0, 2))
    def crash(self, odds: int) -> None:
        """The server is killed; the next one has the same sessions and kernels, which lost nothing."""
        if odds == 0:
            self.server.kill()
            self.server.start()
        for kernel in self.kernels:
            self.look(kernel)

    @precondition(lambda self: self.engine is not None and self.kernels)
    @rule(pick=st.integers(0, 99))
    def hang(self, pick: int) -> None:
        """The engine hangs: cells go on."""
        assert self.engine is not None
        with self.engine.hung():
            self.look(self.choose(pick))
            time.sleep(0.3)

    @precondition(lambda self: self.engine is not None and self.kernels)
    @rule(pick=st.integers(0, 99), odds=st.integers(0, 2))
    def lose_engine(self, pick: int, odds: int) -> None:
        """The engine is killed and comes back, with live-restore: no kernel notices."""
        assert self.engine is not None
        if odds == 0:
            self.engine.kill()
            self.look(self.choose(pick))
            self.engine.start()
        self.look(self.choose(pick))

    # -- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def the_same_sessions(self) -> None:
        """The server has the model's sessions with their kernels, no more and no fewer."""
        Steps.count += self.begun  # it is asked once before the first step
        self.begun = True
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
        print(f"{Steps.count} steps", flush=True)


def explore(server: Server, engine: Faulty | None, steps: int, *, same: bool) -> None:
    """Take a row of up to so many random steps, the same each time or not, from a server without kernels."""
    Steps.server, Steps.engine = server, engine
    chosen = settings(
        max_examples=1,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=same,
        phases=[Phase.generate],  # looking for a smaller example would take as long again, and again
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Steps, settings=chosen)


@pytest.fixture
def specs(kernels: Path, slim: str) -> None:
    """Make a kernelspec whose kernels wait ready to be claimed, and one whose kernels start cold."""
    for name, ready in (("claimed", "1"), ("cold", "0")):
        install(
            kernels.parents[1], name, "--image", slim, "--gpus", "none", "--network", "none", "--pool-size", ready
        )  # fmt: skip


def test_some_random_steps(server: Server, specs: None) -> None:
    """A few steps without faults of the engine."""
    Steps.count = 0
    explore(server, None, steps=10, same=True)
    assert Steps.count >= 10


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
        Steps.count = 0
        while Steps.count < wanted:
            explore(server, own_engine, steps=100, same=False)
        server.stop()
        assert subprocess.run(LISTING, check=True, capture_output=True).stdout == b""
        assert list(workspace.parent.glob("runtime/tfgpu/*")) == []
    finally:
        server.end()
