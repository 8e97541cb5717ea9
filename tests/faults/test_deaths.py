"""Every end of a kernel has a cause, told soon, once, and nothing is left; what is no end is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.live.conftest import install
from tests.live.driving import Driven, kernel
from tests.live.test_lifecycle import held
from tfgpu_kernel import obituaries
from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import THREADS
from tfgpu_kernel.errors import TfgpuError
from tfgpu_kernel.provisioner import TfgpuProvisioner
from tfgpu_kernel.sweep import sweep

from .lag import measured
from .serving import Server

OUT_OF_MEMORY = "x = bytearray(2**30)\nx[::4096] = b'1' * len(x[::4096])"
CHILD = (
    "import subprocess, sys\n"
    "code = \"x = bytearray(2**30); x[::4096] = b'1' * len(x[::4096])\"\n"
    "open('/proc/self/oom_score_adj', 'w').write('-0')\n"
    "print(subprocess.run([sys.executable, '-c', code]).returncode)"
)


def provisioner_of(driven: Driven) -> TfgpuProvisioner:
    """Return a kernel's provisioner."""
    provisioner = driven.manager.provisioner
    assert isinstance(provisioner, TfgpuProvisioner)
    return provisioner


async def told(driven: Driven, code: str, within: float = 5) -> TfgpuError:
    """Run a cell that ends the kernel; return why that was, told once and soon, and the loop not held up."""

    async def end() -> None:
        driven.client.execute(code)

    return await death(driven, end, within)


async def death(driven: Driven, end: Callable[[], Awaitable[object]], within: float = 5) -> TfgpuError:
    """End a kernel; return its account."""
    provisioner = provisioner_of(driven)
    async with measured() as lag:
        await end()
        began = time.monotonic()
        while await provisioner.poll() is None:
            assert time.monotonic() - began < within, "it is not told"
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - began
    mine = [one for one in obituaries.recent() if one.kernel_id == provisioner.kernel_id]
    assert len(mine) == 1
    state = provisioner.run.state() if provisioner.run else None
    assert state is not None and state.death == mine[0].account.message
    print(f"told after {seconds:.2f} s: {mine[0].account.message}")
    lag.check()
    return mine[0].account


async def test_out_of_memory(kernels: Path, workspace: Path, slim: str) -> None:
    """A child that runs out of memory is the child's end alone; when the kernel does, its limit is named within 5 s."""
    install(kernels.parents[1], "small", "--image", slim, "--gpus", "none", "--memory", "256m")
    async with kernel(workspace, "small") as driven:
        assert await driven.run(CHILD) == "-9\n"
        assert await driven.run("print('alive')") == "alive\n"
        account = await told(driven, OUT_OF_MEMORY)
    assert "out of memory" in account.message and "256 MiB" in account.message
    assert "memory" in account.remedy


@pytest.mark.nightly
async def test_a_kernel_that_ends_after_its_child_ran_out_of_memory(
    kernels: Path, workspace: Path, slim: str
) -> None:
    """The engine's out-of-memory flag stands although the kernel ended by itself: that isn't told as its own."""
    install(kernels.parents[1], "small", "--image", slim, "--gpus", "none", "--memory", "256m")
    async with kernel(workspace, "small") as driven:
        assert await driven.run(CHILD) == "-9\n"
        account = await told(driven, "import os; os._exit(3)")
    assert "exit code 3" in account.message
    assert "The kernel ran out of memory" not in account.message


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("code", "message", "details"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 (SIGSEGV)", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9 (SIGKILL)", ""),
        # ipykernel takes what is written there through a pipe of its own, which its end would cut off.
        ("import os, time; os.write(2, b'last words'); time.sleep(1); os._exit(7)", "exit code 7", "last words"),
        ("import os; os._exit(0)", "exit code 0", ""),
    ],
)
async def test_signals_and_exit_codes(
    kernels: Path, workspace: Path, code: str, message: str, details: str
) -> None:
    """A signal is told by its name, an exit by its code, with the last lines of the log."""
    async with kernel(workspace) as driven:
        account = await told(driven, code)
    assert message in account.message
    assert details in account.details


async def test_a_container_removed_from_outside(kernels: Path, workspace: Path) -> None:
    """A container that somebody removed by force is told as such."""
    async with kernel(workspace) as driven:
        command = ["docker", "rm", "--force", provisioner_of(driven).container]
        gone = await death(driven, lambda: asyncio.to_thread(subprocess.run, command, check=True, capture_output=True))
        assert "removed from outside" in gone.message


@pytest.mark.nightly
async def test_a_full_workspace(kernels: Path, workspace: Path) -> None:
    """Where the workspace's disk is full the cell gets the error; the kernel lives, and works on with room again."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", workspace], check=True)
    try:
        async with kernel(workspace) as driven:
            async with measured() as lag:
                assert await driven.run("open('big', 'wb').write(bytes(2**21))") == "OSError"
                assert await driven.run("print('alive')") == "alive\n"
            lag.check()
            (workspace / "big").unlink()
            assert await driven.run("print(open('small', 'w').write('x'))") == "1\n"
    finally:
        subprocess.run(["umount", "--lazy", workspace], check=True)


async def test_a_removed_run_folder(kernels: Path, workspace: Path, engine: Engine) -> None:
    """Its sockets are gone, but who is connected stays so: the kernel lives, and no sweep of its process takes it; a
    restart makes the folder again."""
    async with kernel(workspace) as driven:
        await driven.run("x = 1")
        run = provisioner_of(driven).run
        assert run is not None
        async with measured() as lag:
            shutil.rmtree(run.path)
            assert await driven.run("print(x + 1)") == "2\n"
            assert await driven.manager.is_alive()
            assert await sweep(engine) == []
            assert run.owner_alive(), "the sweeps of other processes must see that, too"
            assert await driven.run("print(x + 1)") == "2\n"
            await driven.restart()
        lag.check()
        assert await driven.run("print(2 + 2)") == "4\n"


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_fifty_restarts(kernels: Path, workspace: Path) -> None:
    """Fifty restarts in a row leave no container, socket, file, descriptor or thread behind."""
    runtime = workspace.parent / "runtime"
    async with kernel(workspace) as driven:
        await driven.restart()
        before = held(runtime)
        async with measured() as lag:
            for _ in range(50):
                await driven.restart()
        lag.check()
        after = held(runtime)
    print(f"before {before}, after {after}")
    assert after.pop("descriptors") <= before.pop("descriptors") + THREADS
    assert after.pop("threads") <= before.pop("threads") + THREADS
    assert after == before


@pytest.mark.nightly
def test_a_kernel_that_dies_again_and_again_is_left_dead(
    server: Server, kernels: Path, slim: str, workspace: Path
) -> None:
    """What ends each time soon after its start is started three times, not for ever; a new one starts."""
    (workspace / "sitecustomize.py").write_text(
        "import os, threading, time\n"
        "def wait():\n"
        f"    while not (os.path.exists('/tfgpu/run/k-1') and os.path.exists({str(workspace / 'die')!r})):\n"
        "        time.sleep(0.1)\n"
        "    time.sleep(1.5)\n"
        "    os._exit(9)\n"
        "threading.Thread(target=wait, daemon=True).start()\n"
    )
    install(
        kernels.parents[1], "ill", "--image", slim, "--gpus", "none", "--env", f"PYTHONPATH={workspace}",
        "--pool-size", "0",
    )  # fmt: skip
    began = int(time.time())
    kernel_id = server.session("ill.ipynb", "ill")["kernel"]["id"]
    (workspace / "die").touch()
    deadline = time.monotonic() + 60
    while server.get(f"api/kernels/{kernel_id}", check=False).ok:  # Jupyter's server forgets one that is dead
        assert time.monotonic() < deadline
        time.sleep(0.5)
    deaths = [one for one in server.get("tfgpu/deaths").json()["deaths"] if one["kernel_id"] == kernel_id]
    time.sleep(5)
    made = subprocess.run(
        ["docker", "events", f"--since={began}", f"--until={int(time.time())}", "--filter", "event=start",
         "--filter", "label=io.tfgpu.kind=kernel", "--format", "{{json .Actor.Attributes}}"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    starts = [line for line in made if str(workspace.parent) in json.loads(line)["io.tfgpu.run"]]
    print(f"{len(starts)} starts, {len(deaths)} deaths told")
    assert len(starts) == len(deaths) == 3
    assert "exit code 9" in deaths[-1]["failure"]["message"]
    (workspace / "die").unlink()
    with server.page(server.session("well.ipynb", "ill")["kernel"]["id"]) as page:
        assert page.run("print(1)") == "1\n"


@contextlib.contextmanager
def breakable(host: str, path: Path) -> Iterator[list[socket.socket]]:
    """Serve an engine at another socket; the connections, which come up in the list, can be cut."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)
    open_ones: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(host.partition("://")[2])
                open_ones.extend((client, engine))
                for ends in ((client, engine), (engine, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield open_ones
    finally:
        path.unlink(missing_ok=True)
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for one in open_ones:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.nightly
async def test_a_cut_event_stream(
    kernels: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut connections to the engine end no kernel; one that ends just then is told with its own cause, soon after."""
    path = tmp_path / "s"
    with breakable(find.find(os.environ), path) as connections:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        try:
            async with kernel(workspace) as driven:
                for _ in range(5):
                    await asyncio.sleep(0.5)
                    for one in connections:
                        with contextlib.suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)
                    assert await driven.manager.is_alive()
                    assert await driven.run("print(1)") == "1\n"
                assert not [one for one in obituaries.recent() if one.kernel_id == driven.manager.kernel_id]
                for one in connections:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                account = await told(driven, "import os; os._exit(9)")
                assert "exit code 9" in account.message
        finally:
            shared = find.engine()
            await shared.close()
            find.forget(shared)


@pytest.mark.nightly
def test_a_death_is_in_ps(server: Server) -> None:
    """The cause of a kernel's end, which nobody has restarted or removed yet, is in ``jupyter tfgpu ps``."""
    model = server.session("dies.ipynb")
    with server.page(model["kernel"]["id"]) as page:
        page.send("import os, time; time.sleep(1); os._exit(9)")
        time.sleep(0.3)
        server.kill()
    deadline, row = time.monotonic() + 30, {"state": "running"}
    while row["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.5)
        listing = subprocess.run(
            [sys.executable, "-m", "tfgpu_kernel.cli", "ps", "--json"], check=True, capture_output=True, text=True
        ).stdout
        assert model["kernel"]["id"] in listing, listing
        [row] = [one for one in json.loads(listing) if one["kernel_id"] == model["kernel"]["id"]]
    assert "exit code 9" in row["death"]
