"""Docker as an ordinary user's own engine: kernels run as root there, which is that user outside."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tfgpu_kernel.engine.docker import DockerEngine
from tfgpu_kernel.errors import EngineUnsuitable
from tfgpu_kernel.identity import identify

from .conftest import install

START: Final = Path("/usr/share/docker.io/contrib/dockerd-rootless.sh")
SECONDS: Final = 60
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user"),
    pytest.mark.skipif(
        not START.exists() or not shutil.which("rootlesskit") or not shutil.which("newuidmap"),
        reason="rootless Docker needs Debian's docker.io, rootlesskit and uidmap",
    ),
]

DRIVE: Final = """
import asyncio
from jupyter_client.manager import AsyncKernelManager

async def main():
    manager = AsyncKernelManager(kernel_name="tfgpu")
    await manager.start_kernel(cwd="{workspace}")
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(60)
    def hear(message):
        print(message["content"].get("text") or message["content"].get("evalue") or "", end="")
    code = "import os; open('made', 'w').close(); print(os.getuid(), os.path.expanduser('~'), os.getcwd()); " \\
           "print(open('/proc/self/status').read())"
    await client.execute_interactive(code, output_hook=hear, timeout=60)
    client.stop_channels()
    await manager.shutdown_kernel()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Rootless:
    """A user's engine; ``folder`` is the user's."""

    folder: Path
    uid: int
    gid: int

    @property
    def host(self) -> str:
        """The engine's address, for DOCKER_HOST."""
        return f"unix://{self.folder}/run/docker.sock"

    def docker(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run the docker command against this engine."""
        env = os.environ | {"DOCKER_HOST": self.host}
        return subprocess.run(["docker", *words], env=env, check=False, input=stdin, capture_output=True)


@pytest.fixture(scope="module")
def rootless(slim: str) -> Iterator[Rootless]:
    """Start an engine as ``nobody``, with the small image in it; it has no network but its own loopback."""
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="tfr-"))
    folder.chmod(0o711)
    (folder / "ids").write_text("nobody:200000:65536\n")
    for name in ("run", "home", "data", "work", "jupyter"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, nobody.pw_uid, nobody.pw_gid)
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": f"{folder}/home",
        "XDG_RUNTIME_DIR": f"{folder}/run",
        "DOCKERD_ROOTLESS_ROOTLESSKIT_NET": "host",
        "DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER": "none",
    }
    become = f"setpriv --reuid={nobody.pw_uid} --regid={nobody.pw_gid} --clear-groups env -i"
    command = (
        f"touch /etc/subuid /etc/subgid && mount --bind {folder}/ids /etc/subuid && "
        f"mount --bind {folder}/ids /etc/subgid && exec {become} "
        + " ".join(f"{name}={text}" for name, text in variables.items())
        + f" sh {START} --data-root={folder}/data --iptables=false --ip6tables=false --bridge=none "
        f"--host=unix://{folder}/run/docker.sock"
    )
    with (folder / "log").open("wb") as log, ended(["unshare", "--mount", "--net", "sh", "-c", command], log.fileno()):
        engine = Rootless(folder, nobody.pw_uid, nobody.pw_gid)
        deadline = time.monotonic() + SECONDS
        while engine.docker("version").returncode:
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(0.2)
        saved = subprocess.run(["docker", "save", slim], check=True, capture_output=True).stdout
        assert engine.docker("load", stdin=saved).returncode == 0
        yield engine
    shutil.rmtree(folder)


@contextmanager
def ended(command: list[str], log: int) -> Iterator[None]:
    """Run a command for a block, and end it with all that it started."""
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)  # rootlesskit ends its engine
        process.wait(SECONDS)


def test_a_kernel_in_a_users_own_engine(rootless: Rootless, slim: str) -> None:
    """The kernel has no rights, its home is its own, and what it writes is the user's; no container is left."""
    folder = rootless.folder
    install(folder / "prefix", "tfgpu", "--image", slim, "--gpus", "none", "--network", "none")
    done = subprocess.run(
        ["setpriv", f"--reuid={rootless.uid}", f"--regid={rootless.gid}", "--clear-groups",
         # Only to read this clone, which may lie in a folder of root's.
         "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
         sys.executable, "-c", DRIVE.format(workspace=folder / "work")],
        env={"PATH": os.environ["PATH"], "HOME": f"{folder}/home", "DOCKER_HOST": rootless.host,
             "JUPYTER_RUNTIME_DIR": f"{folder}/jupyter", "JUPYTER_PATH": f"{folder}/prefix/share/jupyter"},
        check=False, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"0 /tfgpu/home {folder / 'work'}\n" in done.stdout
    for word in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert word in done.stdout
    assert (folder / "work/made").stat().st_uid == rootless.uid
    assert rootless.docker("ps", "--all", "--quiet").stdout == b""


def test_a_users_own_engine_serves_nobody_else(rootless: Rootless) -> None:
    """A kernel for another user is refused: all that this engine runs belongs to its user."""
    engine = DockerEngine(rootless.host)

    async def ask() -> None:
        try:
            info = await engine.info()
        finally:
            await engine.close()
        assert info.rootless
        with pytest.raises(EngineUnsuitable, match="rootless") as caught:
            identify(None, str(rootless.folder / "work"), info)
        assert caught.value.remedy == "use the machine's own (root) engine, or run Jupyter as the engine's user."

    asyncio.run(ask())
