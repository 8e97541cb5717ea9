"""Whoever is killed, at whatever moment: after one sweep nothing is left, and the next start works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.images import recipes, registry
from tests.live.conftest import install
from tests.live.driving import kernel
from tfgpu_kernel import labels, scratch
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.owner import Owner
from tfgpu_kernel.sweep import sweep

from .serving import Server

POINTS = int(os.environ.get("TFGPU_TEST_KILLS", "50"))
SEED = int(os.environ.get("TFGPU_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PULLED = "tfgpu-test/killed:latest"
SETTLE_SECONDS = 2.0
"""An engine finishes what it was asked for, also when nobody waits for the answer any more."""


def docker(*words: str) -> list[str]:
    """Return the lines that a docker command prints."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.splitlines()


class Place:
    """What may be left on this machine, and what was there before."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._before = self._now()

    def _now(self) -> set[str]:
        temporary = Path(tempfile.gettempdir())
        return {
            *(f"container {line}" for line in docker("ps", "-aq", "--filter", f"label={labels.KIND}")),
            *(f"image {line}" for line in docker("images", "-q", "--filter", "dangling=true")),
            *(f"image {line}" for line in docker("images", "-q", "--filter", f"label={labels.KIND}=workshop")),
            *(f"volume {line}" for line in docker("volume", "ls", "-q")),
            *(str(path) for path in temporary.glob("tfgpu-scratch-*") if not _alive(path / "owner")),
            *(str(path) for path in Path("/dev/shm").glob("tfgpu-lease-*") if str(self._runtime) in _text(path)),
            *(str(path) for path in self._runtime.rglob("*") if path.is_socket() or path.match("kernel-*.json")),
            *map(str, self._runtime.glob("tfgpu/*")),
        }

    def left(self) -> set[str]:
        """Return what is there that wasn't."""
        return self._now() - self._before


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _alive(path: Path) -> bool:
    owner = Owner.parse(_text(path))
    return owner is not None and owner.alive


def prune() -> None:
    """Sweep once, in a process of its own."""
    command = [sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


class Bench:
    """Starts victims, and kills them."""

    def __init__(self, workspace: Path, reference: str, chance: random.Random) -> None:
        self.workspace, self.reference, self.chance = workspace, reference, chance

    @contextlib.contextmanager
    def victim(self, verb: str, argument: str = "") -> Iterator[subprocess.Popen[str]]:
        """Run a program until it says ``now``; it doesn't outlast the block."""
        command = [sys.executable, "-m", "tests.faults.victims", verb, argument or str(self.workspace)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None and process.stderr is not None
            if not process.stdout.readline():
                raise AssertionError(process.stderr.read()[-3000:])
            yield process
        finally:
            process.kill()
            process.communicate()

    def wait(self, seconds: float) -> None:
        """Wait for a random part of a time."""
        time.sleep(self.chance.random() * seconds)

    def program(self, verb: str) -> None:
        """Kill a program that drives a kernel."""
        with self.victim(verb):
            self.wait(2.5)

    def claimer(self) -> None:
        """Kill a program while it takes a kernel that another keeps ready; then that one, too."""
        with self.victim("keep"):
            with self.victim("start"):
                self.wait(1.0)
            self.wait(0.5)

    def pool(self) -> None:
        """Kill who keeps kernels ready while another program takes one; that one is not harmed."""
        with self.victim("keep") as keeper, self.victim("start"):
            self.wait(1.0)
            keeper.kill()
            self.wait(1.0)

    def puller(self) -> None:
        """Kill a program that pulls an image."""
        with self.victim("pull", self.reference):
            self.wait(2.5)

    def server(self, action: str) -> None:
        """Kill a server while it does what a page asked for."""
        server = Server(self.workspace)
        server.start()
        try:
            times, method, path = 1, "POST", "api/sessions"
            body: object = _session("a.ipynb", "pulled" if action == "pull" else "tfgpu")
            if action not in {"start", "pull"}:
                model = server.session("a.ipynb")
                if action == "claim":
                    body = _session("b.ipynb", "tfgpu")
                    self.wait(4.0)
                elif action == "restart":
                    times, path, body = 3, f"api/kernels/{model['kernel']['id']}/restart", None
                else:
                    method, path, body = "DELETE", f"api/sessions/{model['id']}", None

            def ask() -> None:
                with contextlib.suppress(requests.RequestException):
                    for _ in range(times):
                        server.call(method, path, body, check=False)

            asking = threading.Thread(target=ask)
            asking.start()
            self.wait(2.5)
            server.kill()
            asking.join()
        finally:
            if server.process is not None and server.process.poll() is None:
                server.kill()


def _session(notebook: str, kernel_name: str) -> dict[str, object]:
    return {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": kernel_name}}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a slow registry; return the name of an image there that the engine doesn't have."""
    try:
        with registry.running(tmp_path_factory.mktemp("registry")) as server:
            registry.random_image(PULLED, 3, 2, tmp_path_factory.mktemp("content"))
            registry.push(PULLED, PULLED, server)
            subprocess.run(["docker", "rmi", "--force", PULLED], check=True, capture_output=True)
            server.fault = "slow"
            yield f"{server.address}/{PULLED}"
    except recipes.RecipeUnavailable as why:
        pytest.skip(str(why))


@pytest.mark.nightly
@pytest.mark.timeout(7200)
async def test_killed_anywhere(kernels: Path, workspace: Path, slow: str, nothing_left: None) -> None:
    """At random moments of start, claim, pull, restart and shutdown, server, program and pool: nothing is left."""
    chance = random.Random(SEED)  # noqa: S311 - chance, not secrecy
    print(f"TFGPU_TEST_SEED={SEED}")
    install(kernels.parents[1], "pulled", "--image", slow, "--gpus", "none")
    bench = Bench(workspace, slow, chance)
    deeds: dict[str, Callable[[], None]] = {
        "program, start": lambda: bench.program("start"),
        "program, restart": lambda: bench.program("restart"),
        "program, shutdown": lambda: bench.program("shutdown"),
        "program, claim": bench.claimer,
        "program, pull": bench.puller,
        "pool, claim": bench.pool,
        **{
            f"server, {action}": lambda action=action: bench.server(action)  # type: ignore[misc]
            for action in ("start", "claim", "pull", "restart", "shutdown")
        },
    }
    place = Place(workspace.parent / "runtime")
    found = []
    for point in range(POINTS):
        name = chance.choice(sorted(deeds))
        deeds[name]()
        subprocess.run(["docker", "rmi", "--force", slow], check=False, capture_output=True)
        time.sleep(SETTLE_SECONDS)
        before = len(place.left())
        prune()
        left = place.left()
        async with kernel(workspace) as driven:
            works = await driven.run("print(1)") == "1\n"
        print(f"{point + 1}: {name}: {before} things before the sweep, {len(left)} after", flush=True)
        if left or not works:
            found.append(f"{name}: {sorted(left)}, the next start {'works' if works else 'fails'}")
            prune()
    assert found == []


async def test_a_killed_program_leaves_nothing_behind_a_sweep(
    kernels: Path, workspace: Path, engine: Engine, slim: str
) -> None:
    """Killed as it starts a kernel, and as it works in an image: one sweep takes both, and spares what others do."""
    place = Place(workspace.parent / "runtime")
    chance = random.Random(SEED)  # noqa: S311 - chance, not secrecy
    Bench(workspace, "", chance).program("start")
    await asyncio.sleep(SETTLE_SECONDS)  # what the engine was told to make just before, it makes
    gone = f"{Owner.current().boot}/{Owner.current().namespace}/1/1"

    def work(owner: str) -> str:
        marks = {labels.KIND: labels.KIND_WORKSHOP, labels.UID: str(os.geteuid()), labels.OWNER: owner}
        words = [word for name, text in marks.items() for word in ("--label", f"{name}={text}")]
        return docker("create", *words, slim, "true")[0][:12]

    theirs, mine = work(gone), work(str(Owner.current()))
    with scratch.folder() as kept, scratch.folder() as lost, scratch.beside(workspace) as near:
        far = workspace / "far"
        far.mkdir()
        with scratch.beside(far) as lost_there:
            for path in Path(tempfile.gettempdir()).glob("tfgpu-scratch-*/beside"):
                if path.read_text() == str(lost_there):
                    (path.parent / "owner").write_text(gone)
            (lost / "owner").write_text(gone)
            await sweep(engine, spare=False)
            assert place.left() == {f"container {mine}"}, SEED
            assert kept.exists() and near.exists() and not lost.exists() and not lost_there.exists()
    docker("rm", mine)
    assert theirs not in docker("ps", "-aq")
