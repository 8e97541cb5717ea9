"""A Docker engine of the tests' own, which knows the doubled runtime; the machine's engine stays as it is.

It has its own data, sockets and containerd, starts in a quarter of a second, and goes with the test. Its
containers have no network but their own loopback: no bridge, no packet filter, nothing shared with others.
Needs root, as any engine with device nodes does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.engines import fetch

TINY: Final = "tfgpu-double/tiny"
"""A root with a shell, ls, env and sleep from this machine: enough for nvidia-smi to run in."""
_PROGRAMS: Final = ("sh", "ls", "env", "sleep", "cat", "id")


@dataclass(frozen=True)
class Daemon:
    """An engine that runs; ``folder`` has its socket and log."""

    folder: Path
    pid: int = 0

    @property
    def host(self) -> str:
        """Return the engine's address, for DOCKER_HOST."""
        return f"unix://{self.folder}/docker.sock"

    def docker(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run the docker command against this engine; standard error joins the output."""
        done = subprocess.run(
            ["docker", *arguments],
            env=os.environ | {"DOCKER_HOST": self.host},
            check=False,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), "")

    def answers(self) -> bool:
        """Whether the engine serves its socket."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "docker.sock"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(4096)
        return False


@contextlib.contextmanager
def running(
    runtimes: Mapping[str, Path],
    *options: str,
    settings: Mapping[str, object] | None = None,
    suite: str = "",
    bridge: str = "",
    within: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Start an engine with these runtimes, and end it with all its containers.

    :param options: more of dockerd's own.
    :param settings: what its daemon.json shall have.
    :param suite: the release of Debian whose engine it shall be; by default the installed one.
    :param bridge: a bridge for its containers (:mod:`tests.doubles.bridge`); it then shares the machine's network.
    :param within: a command that ends by becoming the one that follows it, such as ``unshare --mount``.
    """
    folder = Path(tempfile.mkdtemp(prefix="tfgpu-engine-"))  # sockets take short paths only
    folder.chmod(0o711)  # an engine that maps user ids isn't root in its own data
    (folder / "daemon.json").write_text(json.dumps(dict(settings or {})))
    command = [
        # In a network of its own: --bridge=none takes the machine's docker0 away from its own engine.
        *(() if bridge else fetch.inside(fetch.unpacked(suite)) if suite else ("unshare", "--net")),
        *within,
        "dockerd",
        f"--config-file={folder}/daemon.json",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host=unix://{folder}/docker.sock",
        f"--cgroup-parent=/{folder.name}",
        f"--bridge={bridge or 'none'}",
        "--iptables=false",
        "--ip6tables=false",
        *(f"--add-runtime={name}={path}" for name, path in runtimes.items()),
        *options,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    daemon = Daemon(folder, process.pid)
    try:
        _await_answer(daemon, process)
        yield daemon
        _remove_containers(daemon)
    finally:
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        _forget(folder)


def tiny_root() -> bytes:
    """Return a tar of a root made of this machine's own programs, for ``docker import``: no registry is needed."""
    files: set[str] = set()
    for program in _PROGRAMS:
        found = os.path.realpath(shutil.which(program) or "")
        libraries = subprocess.run(["ldd", found], check=True, capture_output=True, text=True).stdout
        files |= {word for word in libraries.split() if word.startswith("/")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for program in _PROGRAMS:
            tar.add(os.path.realpath(shutil.which(program) or ""), f"usr/bin/{program}")
        for file in sorted(files):
            tar.add(os.path.realpath(file), "usr" + file if not file.startswith("/usr/") else file[1:])
    return buffer.getvalue()


def _await_answer(daemon: Daemon, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not daemon.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("dockerd did not start:\n" + (daemon.folder / "log").read_text()[-2000:])
        time.sleep(0.02)


def _remove_containers(daemon: Daemon) -> None:
    containers = daemon.docker("ps", "--all", "--quiet").stdout.split()
    if containers:
        daemon.docker("rm", "--force", *containers)


def _forget(folder: Path) -> None:
    """Remove what an engine leaves: mounts, cgroups, files."""
    for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
    # os.walk passes over what goes meanwhile: other engines' containers end, too.
    for place, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if folder.name in Path(place).parts:
            with contextlib.suppress(OSError):
                os.rmdir(place)
    shutil.rmtree(folder, ignore_errors=True)
