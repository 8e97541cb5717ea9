"""Engines of the tests' own that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubles.engine import Daemon, running

SECONDS = 30


@dataclass
class Faulty:
    """An engine, and what can be done to it."""

    daemon: Daemon
    command: list[str] = field(default_factory=list)
    again: subprocess.Popen[bytes] | None = None
    inside: tuple[str, ...] = ("unshare", "--net")
    """What the daemon is started by: it has a network of its own, or a bridge on the machine's."""

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int((self.daemon.folder / "pid").read_text())

    def kill(self) -> None:
        """End the daemon as a crash would; its containerd ends with it, its containers stay."""
        pid = self.pid
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        self.command = [*self.inside, *(word.decode() for word in words)]
        containerd = Path(f"/proc/{self._containerd()}")
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        # The next daemon would wait for a containerd that is about to end, and start none.
        while (self.daemon.answers() or containerd.exists()) and time.monotonic() < deadline:
            time.sleep(0.02)

    def start(self) -> None:
        """Start the daemon again."""
        (self.daemon.folder / "pid").unlink(missing_ok=True)
        with (self.daemon.folder / "log").open("ab") as log:
            self.again = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + SECONDS
        while not self.daemon.answers():
            assert time.monotonic() < deadline, (self.daemon.folder / "log").read_text()[-3000:]
            time.sleep(0.05)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Have the daemon take connections and answer nothing, for a block."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + SECONDS
            # On a busy machine its threads stop one by one.
            while not all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
                assert time.monotonic() < deadline, "it doesn't stop"
                time.sleep(0.01)
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """End a daemon that was started again, and what it left."""
        if not self.command:
            return
        if self.again is None or self.again.poll() is not None:
            self.start()
        assert self.again is not None
        containers = self.daemon.docker("ps", "--all", "--quiet").stdout.split()
        if containers:
            self.daemon.docker("rm", "--force", *containers)
        containerd = self._containerd()
        self.again.send_signal(signal.SIGTERM)
        try:
            self.again.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.again.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(containerd, signal.SIGKILL)

    def _containerd(self) -> int:
        return int((self.daemon.folder / "exec/containerd/containerd.pid").read_text())


def _state(task: Path) -> str:
    """Return the state of a thread, see proc(5)."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def faulty(*options: str, suite: str = "", image: str = "", bridge: str = "") -> Iterator[Faulty]:
    """Start an engine with an image of the machine's engine in it."""
    with running({}, *options, suite=suite, bridge=bridge) as daemon:
        if image:
            saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
            loaded = daemon.docker("load", stdin=saved)
            assert loaded.returncode == 0, loaded.stdout
        engine = Faulty(daemon, inside=() if bridge else Faulty.inside)
        try:
            yield engine
        finally:
            engine.end()
