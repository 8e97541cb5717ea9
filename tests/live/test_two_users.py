"""Two ordinary users on one engine with one GPU: neither takes the other's lease, nor ends the other's kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles.state import machine
from tfgpu_kernel import lease

from .gpu_machine import ROOT, Machine, needs_own_engine
from .test_leases import _LAUNCH, results

pytestmark = [needs_own_engine, pytest.mark.nightly]

UIDS = (23461, 23462)


@dataclass(frozen=True)
class User:
    """One of them, with a home of its own."""

    uid: int
    home: Path
    machine: Machine

    def command(self, *words: str, reads: bool = True) -> subprocess.Popen[str]:
        """Start a command as the user; ``reads``: it may read this clone, which may lie in a folder of root's."""
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        if reads:
            become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        kept = {name: text for name, text in self.machine.env.items() if not name.startswith("XDG")}
        own = {"HOME": str(self.home), "JUPYTER_RUNTIME_DIR": str(self.home / "rt")}
        return subprocess.Popen(
            [*become, *words], env=kept | own, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def launch(self, after: str) -> subprocess.Popen[str]:
        """Start a kernel that has the GPU exclusively."""
        return self.command(sys.executable, "-c", _LAUNCH, "alone", "1", after, str(self.home))


@pytest.fixture
def users(nvidia_machine: Machine) -> Iterator[tuple[User, User]]:
    """Make the two, both of whom may use the engine."""
    nvidia_machine.set(machine(1))
    nvidia_machine.install("alone", "--gpu-sharing", "exclusive")
    socket = Path(nvidia_machine.daemon.host.partition("://")[2])
    mode = socket.stat().st_mode
    socket.chmod(0o666)
    homes = []
    for uid in UIDS:
        homes.append(Path(tempfile.mkdtemp(prefix="tfu-")))
        os.chown(homes[-1], uid, uid)
    first, second = (User(uid, home, nvidia_machine) for uid, home in zip(UIDS, homes, strict=True))
    yield first, second
    socket.chmod(mode)
    nvidia_machine.clear()
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


def test_a_lease_is_its_users(users: tuple[User, User]) -> None:
    """The second user is refused while the first holds the GPU, can neither remove nor overwrite the lease, and a
    sweep or a prune of theirs ends nothing of the first's; when the first is done, the second gets the GPU."""
    first, second = users
    running = first.launch("wait")
    [(held, container)] = results(running)["run"]
    [file] = [path for path in lease.FOLDER.glob("tfgpu-lease-*") if str(first.home) in _text(path)]
    assert file.stat().st_uid == first.uid
    for attempt in ("os.unlink(path)", "open(path, 'w')", "os.rename(path, path + '-')"):
        tried = second.command("python3", "-c", f"import os; path = {str(file)!r}; {attempt}", reads=False)
        assert "PermissionError" in tried.communicate(timeout=30)[1]
    pruned = second.command(sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running")
    assert "none was removed" in pruned.communicate(timeout=60)[0]
    refused = second.launch("end")
    [(kind, text)] = results(refused)["failed"]
    assert kind == "GpusTaken" and str(first.uid) in text
    refused.communicate("", 60)
    assert file.exists() and container in first.machine.kernels()
    running.communicate("\n", 60)
    later = second.launch("end")
    assert results(later)["run"][0][0] == held
    later.communicate("", 60)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
