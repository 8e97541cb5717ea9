"""What can be wrong with engine, image, disk and folders: one clear error, nothing left, and the next start works."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.engine import Daemon, running
from tfgpu_kernel import errors
from tfgpu_kernel.engine import find

from .conftest import install, made
from .driving import kernel

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="an engine of the tests' own needs root")
ENGINE_BYTES = 700 * 2**20
"""Room to load the small image (docker load keeps a copy meanwhile), and soon full."""

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
"""No engine can lend more open files than its own machine allows."""


async def failure(workspace: Path, name: str = "tfgpu") -> errors.TfgpuError:
    """Try to start a kernel; return the error, which says what to do."""
    with pytest.raises(errors.TfgpuError) as raised:
        async with kernel(workspace, name):
            pass
    assert "What to do:" in str(raised.value)
    return raised.value


async def works(workspace: Path, name: str = "tfgpu") -> bool:
    """Whether a kernel starts and runs a cell."""
    async with kernel(workspace, name) as driven:
        return await driven.run("print(1)") == "1\n"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Give what sets DOCKER_HOST; afterwards the engine that was asked there is forgotten."""
    monkeypatch.setattr("tfgpu_kernel.engine.docker.INFO_SECONDS", 3)
    known = dict(find._engines)
    yield monkeypatch
    for address, engine in list(find._engines.items()):
        if address not in known:
            asyncio.run(engine.close())
            find.forget(engine)


async def test_no_engine(kernels: Path, workspace: Path, at: pytest.MonkeyPatch) -> None:
    """Where nobody listens, the error says how to start the engine; with one, the next start works."""
    with at.context() as here:
        here.setenv("DOCKER_HOST", f"unix://{workspace}/none.sock")
        error = await failure(workspace)
        assert isinstance(error, errors.EngineNotFound | errors.EngineNotAnswering)
        assert "systemctl start docker" in error.remedy
    assert await works(workspace)


async def test_no_engine_anywhere(kernels: Path, workspace: Path, at: pytest.MonkeyPatch) -> None:
    """Where no usual place has a socket, the error names those places and how to install Docker."""
    at.delenv("DOCKER_HOST", raising=False)
    at.setenv("DOCKER_CONFIG", str(workspace))
    at.setattr("tfgpu_kernel.engine.find.sockets", lambda environ: iter([f"{workspace}/docker.sock"]))
    error = await failure(workspace)
    assert isinstance(error, errors.EngineNotFound)
    assert f"{workspace}/docker.sock" in error.message
    assert "install" in error.remedy


@needs_root
def test_engine_not_permitted(workspace: Path) -> None:
    """A user outside the engine's group is told of the group, and what joining it means."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        os.chmod(folder, 0o701)
        listening.bind(f"{folder}/docker.sock")
        os.chmod(f"{folder}/docker.sock", 0o660)
        listening.listen()
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",  # only to read this clone
             sys.executable, "-m", "tfgpu_kernel.cli", "ps"],
            env=os.environ | {"DOCKER_HOST": f"unix://{folder}/docker.sock", "HOME": "/"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "this user may not use it" in done.stderr
    assert "usermod -aG docker" in done.stderr
    assert "Traceback" not in done.stderr


async def test_registry_out_of_reach(kernels: Path, workspace: Path) -> None:
    """An image that isn't here, with a registry that doesn't answer, names both and the ways without a registry."""
    install(kernels.parents[1], "far", "--image", "localhost:9/absent", "--gpus", "none")
    error = await failure(workspace, "far")
    assert isinstance(error, errors.RegistryUnreachable)
    assert "localhost:9/absent" in error.message
    assert "image build" in error.remedy
    assert await works(workspace)


async def test_image_without_python(kernels: Path, workspace: Path) -> None:
    """An image with no Python is refused by name, with one that has it."""
    install(kernels.parents[1], "empty", "--image", made("no-python"), "--gpus", "none")
    error = await failure(workspace, "empty")
    assert isinstance(error, errors.ImageUnusable)
    assert "Python" in error.message
    assert await works(workspace)


async def test_image_that_exits_at_once(kernels: Path, workspace: Path) -> None:
    """An entrypoint that ends at once does no harm: a kernel's container has none, and the image gets completed."""
    install(kernels.parents[1], "exits", "--image", made("exits"), "--gpus", "none")
    assert await works(workspace, "exits")


async def test_python_that_exits_at_once(kernels: Path, workspace: Path, slim: str) -> None:
    """A Python that ends at once is told with its exit code and last words."""
    (workspace / "sitecustomize.py").write_text("import os\nos.write(2, b'told to leave')\nos._exit(3)\n")
    install(kernels.parents[1], "leaves", "--image", slim, "--gpus", "none", "--env", f"PYTHONPATH={workspace}")
    error = await failure(workspace, "leaves")
    assert isinstance(error, errors.KernelDied)
    assert "exit code 3" in error.message
    assert "told to leave" in error.details
    (workspace / "sitecustomize.py").unlink()
    assert await works(workspace, "leaves")


@pytest.mark.parametrize("what", ["gone", "file"])
async def test_workspace_that_can_not_be_mounted(kernels: Path, workspace: Path, slim: str, what: str) -> None:
    """A workspace that isn't there, or is no folder, is refused by its name."""
    (workspace / "file").touch()
    install(
        kernels.parents[1], "astray", "--image", slim, "--gpus", "none", "--workspace", f"{workspace}/{what}"
    )
    error = await failure(workspace, "astray")
    assert isinstance(error, errors.MountRefused)
    assert f"{workspace}/{what}" in error.message
    assert await works(workspace)


def fill(file: Path) -> None:
    """Write a file until its disk is full."""
    with file.open("wb", buffering=0) as writing:
        for size in (2**20, 4096):
            with contextlib.suppress(OSError):
                while writing.write(bytes(size)) == size:
                    pass


@needs_root
async def test_no_space_for_the_run_folder(
    kernels: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk below the run folder is told with its place; with room again the next start works."""
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", full], check=True)
    try:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(full))
        fill(full / "filler")
        error = await failure(workspace)
        assert isinstance(error, errors.NoSpace), error
        assert str(full) in error.message
        assert not list(full.glob("tfgpu/*"))
        (full / "filler").unlink()
        assert await works(workspace)
    finally:
        subprocess.run(["umount", "--lazy", full], check=True)


@pytest.fixture(scope="module")
def odd(slim: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Run an engine that sees an empty folder at ``hidden``, with a small disk, and the small image on it."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "hidden").mkdir()
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ENGINE_BYTES}", "none", folder / "disk"], check=True)
    try:
        # Docker 29 starts containers with so few open files.
        options = (f"--data-root={folder}/disk/data", f"--default-ulimit=nofile=1024:{HARD}")
        hiding = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', f"{folder}/hidden")
        with running({}, *options, within=hiding) as daemon:
            carry(slim, daemon)
            (daemon.folder / "odd").symlink_to(folder)
            yield daemon
    finally:
        subprocess.run(["umount", "--lazy", folder / "disk"], check=True)


def carry(image: str, daemon: Daemon) -> None:
    """Bring an image from the machine's engine to another."""
    saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    subprocess.run(
        ["docker", "load"],
        env=os.environ | {"DOCKER_HOST": daemon.host},
        stdin=saved.stdout,
        check=True,
        capture_output=True,
    )
    assert saved.wait() == 0


@pytest.fixture
def at_odd(odd: Daemon, kernels: Path, slim: str, at: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """Make that engine the one that kernels run on, and its containers the ones that must be gone afterwards."""
    at.setenv("DOCKER_HOST", odd.host)
    install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", "--network", "none")
    yield odd
    assert odd.docker("ps", "--all", "--quiet").stdout == ""


@needs_root
async def test_engine_with_few_open_files(at_odd: Daemon, workspace: Path) -> None:
    """A kernel raises its open files as far as it may where the engine's default is 1024; data pipelines need them."""
    async with kernel(workspace) as driven:
        told = await driven.run("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert told == f"({min(65536, HARD)}, {HARD})\n"


@needs_root
async def test_engine_hangs(at_odd: Daemon, workspace: Path) -> None:
    """A stopped engine is told after its time, the event loop runs on meanwhile, and afterwards all is well."""
    assert await works(workspace)
    os.kill(at_odd.pid, signal.SIGSTOP)
    try:
        lag = 0.0
        starting = asyncio.ensure_future(failure(workspace))
        while not starting.done():
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lag = max(lag, time.monotonic() - began)
        assert isinstance(starting.result(), errors.EngineNotAnswering)
        assert lag < 1.5
    finally:
        os.kill(at_odd.pid, signal.SIGCONT)
    assert await works(workspace)


@needs_root
async def test_engine_that_does_not_share_the_run_folder(
    at_odd: Daemon, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that sees other folders than the server is told as such; a shared run folder puts it right."""
    hidden = (at_odd.folder / "odd").resolve() / "hidden"
    with monkeypatch.context() as here:
        here.setenv("JUPYTER_RUNTIME_DIR", str(hidden))
        error = await failure(workspace)
        assert isinstance(error, errors.RunFolderNotShared)
        assert not list(hidden.glob("tfgpu/*"))
    assert await works(workspace)


@needs_root
async def test_no_space_on_the_engines_disk(at_odd: Daemon, workspace: Path) -> None:
    """A full disk of the engine is told as such; with room again the next start works."""
    filler = (at_odd.folder / "odd").resolve() / "disk/filler"
    fill(filler)
    try:
        error = await failure(workspace)
        assert isinstance(error, errors.NoSpace), error
    finally:
        filler.unlink()
    assert await works(workspace)


@needs_root
async def test_engine_that_maps_user_ids(
    kernels: Path, workspace: Path, slim: str, tmp_path: Path, at: pytest.MonkeyPatch
) -> None:
    """Under userns-remap a kernel runs as the workspace's owner all the same, with a home, and its files are theirs."""
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"nobody:200000:65536\n{group}:200000:65536\n")
    mapped = (
        "unshare", "--mount", "sh", "-c",
        'mount --bind "$0/subuid" /etc/subuid && mount --bind "$0/subgid" /etc/subgid && exec "$@"', str(tmp_path),
    )  # fmt: skip
    for path in ("/etc/subuid", "/etc/subgid"):
        Path(path).touch()
    os.chown(workspace, 12345, 12345)
    for folder in workspace.parents:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with running({}, f"--userns-remap=nobody:{group}", within=mapped) as daemon:
        carry(slim, daemon)
        at.setenv("DOCKER_HOST", daemon.host)
        install(kernels.parents[1], "tfgpu", "--image", slim, "--gpus", "none", "--network", "none")
        async with kernel(workspace) as driven:
            assert await driven.run("import os; print(os.getuid())") == "12345\n"
            told = await driven.run("p = os.path.expanduser('~/x'); open(p, 'w').close(); print(os.path.exists(p))")
            assert told == "True\n"
            await driven.run("open('made', 'w').close()")
            status = await driven.run("print(open('/proc/self/status').read())")
        for word in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            assert word in status
        assert (workspace / "made").stat().st_uid == 12345
        assert daemon.docker("ps", "--all", "--quiet").stdout == ""
