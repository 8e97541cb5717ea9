"""The eleven traps that jupyter_client, ipykernel and Docker lay for a provisioner: each sprung, and each avoided.

A trap is sprung with what this package does about it taken away, or with the bare program that has it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from jupyter_client.ioloop.manager import AsyncIOLoopKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from requests.exceptions import ReadTimeout
from traitlets.config import Config

from tfgpu_kernel.engine import find
from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.errors import EngineNotAnswering, KernelDied, TfgpuError
from tfgpu_kernel.provisioner import TfgpuProvisioner

from .conftest import install, made
from .driving import kernel
from .serving import call, serving

IGNORE_SIGNALS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def provisioner(manager: Any) -> TfgpuProvisioner:
    """Return a manager's provisioner."""
    found = manager.provisioner
    assert isinstance(found, TfgpuProvisioner)
    return found


def docker(*words: str, check: bool = True) -> str:
    """Run a docker command on the tests' engine and return what it printed."""
    done = subprocess.run(["docker", *words], check=check, capture_output=True, text=True)
    return done.stdout.strip()


async def containers(engine: Engine, below: Path) -> list[str]:
    """Return the states of this test's kernel containers."""
    found = await engine.list({"io.tfgpu.kind": "kernel"})
    return [record.state for record in found if record.labels["io.tfgpu.run"].startswith(str(below))]


@pytest.fixture
def slow(kernels: Path, workspace: Path, slim: str) -> str:
    """Make a kernelspec whose Python takes a minute before it becomes a kernel; return its name."""
    (workspace / "sitecustomize.py").write_text(
        f"import sys\nif 'tfgpu' in ''.join(sys.orig_argv):\n    {IGNORE_SIGNALS}\n"
    )
    install(
        kernels.parents[1], "slow", "--image", slim, "--gpus", "none", "--env", f"PYTHONPATH={workspace}"
    )
    return "slow"


@pytest.mark.parametrize("cured", [False, True], ids=["sprung", "avoided"])
async def test_1_a_launch_that_raises_leaves_its_id_pending(
    kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch, cured: bool
) -> None:
    """Trap 1: jupyter_client goes on to count a start that raised as one under way, and waits for it at its end."""
    install(kernels.parents[1], "bad", "--image", "tfgpu-test/absent", "--pull", "never", "--gpus", "none")
    if not cured:
        monkeypatch.setattr(TfgpuProvisioner, "_forget_start", lambda self: None)
    manager = AsyncMultiKernelManager(connection_dir=str(workspace))
    await manager.start_kernel(kernel_name="tfgpu", cwd=str(workspace))
    try:
        with pytest.raises(TfgpuError, match="not on this machine"):
            await manager.start_kernel(kernel_name="bad", cwd=str(workspace))
        assert len(manager._pending_kernels) == (0 if cured else 1)
    finally:
        await manager.shutdown_all(now=True)


async def test_1_a_server_ends_after_a_launch_that_raised(kernels: Path, workspace: Path) -> None:
    """Trap 1: a start that raised leaves no connection file, tells its reason, and TERM still ends the server."""
    install(kernels.parents[1], "bad", "--image", "tfgpu-test/absent", "--pull", "never", "--gpus", "none")
    with serving(workspace) as server:
        assert "id" in call(server, "POST", "/api/kernels", {"name": "tfgpu"})
        session = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "bad"}}
        failed = call(server, "POST", "/api/sessions", session)
        assert "not on this machine" in failed["message"]
        assert "What to do:" in failed["message"]
        assert len(list(Path(os.environ["JUPYTER_RUNTIME_DIR"]).glob("kernel-*.json"))) <= 1
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)


async def test_2_a_server_that_ends_mid_launch_leaves_nothing_for_good(
    slow: str, workspace: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 2: the launch under way when a server gets SIGTERM is abandoned; the next sweep takes its container."""
    with serving(workspace) as server:
        asking = asyncio.ensure_future(asyncio.to_thread(call, server, "POST", "/api/kernels", {"name": slow}))
        deadline = time.monotonic() + 30
        while await containers(engine, workspace.parent) != ["running"]:
            assert time.monotonic() < deadline, server.told()
            await asyncio.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.to_thread(server.process.wait, 20)
        assert time.monotonic() - began < 15
        await asyncio.gather(asking, return_exceptions=True)
    assert await containers(engine, workspace.parent) == ["running"]  # sprung: nobody's
    monkeypatch.setattr("tfgpu_kernel.sweep._swept", set())  # as in a new process
    async with kernel(workspace):
        assert await containers(engine, workspace.parent) == ["running"]


@pytest.fixture
def dies(kernels: Path, workspace: Path, slim: str) -> str:
    """Make a kernelspec whose Python ends before it becomes a kernel; return its name."""
    (workspace / "sitecustomize.py").write_text(
        "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos._exit(3)\n"
    )
    install(kernels.parents[1], "dies", "--image", slim, "--gpus", "none", "--env", f"PYTHONPATH={workspace}")
    return "dies"


async def test_3_a_start_that_waits_for_no_answer_is_none(
    dies: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 3, sprung: to jupyter_client a start is over when the process is there, were it to die at once."""

    async def takes_it_for_granted(*_: Any) -> None:
        pass

    monkeypatch.setattr("tfgpu_kernel.launch.first_answer", takes_it_for_granted)
    manager = AsyncIOLoopKernelManager(kernel_name=dies, autorestart=False)
    await manager.start_kernel(cwd=str(workspace))  # says nothing
    try:
        deadline = time.monotonic() + 20
        while await manager.is_alive():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    finally:
        await manager.shutdown_kernel(now=True)


async def test_3_a_kernel_that_dies_at_once_is_one_error(
    dies: str, workspace: Path, engine: Engine
) -> None:
    """Trap 3: a start isn't over before the kernel answers, so one that dies raises, once, with its last words."""
    manager = AsyncIOLoopKernelManager(kernel_name=dies)
    began = time.monotonic()
    with pytest.raises(KernelDied, match="exit code 3") as failure:
        await manager.start_kernel(cwd=str(workspace))
    assert time.monotonic() - began < 15  # five restarts take 18 s
    assert "last words" in str(failure.value)
    assert await containers(engine, workspace.parent) == []


@pytest.mark.parametrize("cured", [False, True], ids=["sprung", "avoided"])
async def test_4_an_automatic_restart_that_raises(
    kernels: Path, workspace: Path, slim: str, monkeypatch: pytest.MonkeyPatch, cured: bool
) -> None:
    """Trap 4: a relaunch that raises in jupyter_client's restarter stops it: the kernel would never be called dead."""
    if not cured:

        def raises(self: TfgpuProvisioner, failure: TfgpuError) -> Any:
            raise failure

        monkeypatch.setattr(TfgpuProvisioner, "_stay_dead", raises)
    docker("tag", slim, "tfgpu-test/vanishes")
    install(
        kernels.parents[1], "vanishes", "--image", "tfgpu-test/vanishes", "--pull", "never", "--gpus", "none"
    )
    manager = AsyncIOLoopKernelManager(
        kernel_name="vanishes", config=Config({"KernelRestarter": {"time_to_dead": 0.2}})
    )
    await manager.start_kernel(cwd=str(workspace))
    dead = asyncio.Event()
    manager.add_restart_callback(dead.set, "dead")
    try:
        docker("rmi", "tfgpu-test/vanishes")
        docker("kill", provisioner(manager)._kernel.container)  # type: ignore[union-attr]
        if cured:
            await asyncio.wait_for(dead.wait(), 20)
            assert "not on this machine" in str(provisioner(manager)._report)
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(dead.wait(), 5)
    finally:
        manager.stop_restarter()
        await manager.shutdown_kernel(now=True)
        if not cured:
            await provisioner(manager).cleanup()


async def test_5_no_port_is_kept_over_a_restart(kernels: Path, workspace: Path) -> None:
    """Trap 5: TCP ports are kept over a restart, and may be taken meanwhile; our kernels have none."""
    local = AsyncIOLoopKernelManager(kernel_name="python3")
    if "python3" in local.kernel_spec_manager.find_kernel_specs():
        await local.start_kernel(cwd=str(workspace))
        try:
            before = local.shell_port
            await local.restart_kernel(now=True)
            assert local.shell_port == before > 1024
        finally:
            await local.shutdown_kernel(now=True)
    # ipykernel's debugger listens on the loopback of the container's own network, which no one else has.
    listening = (
        "print([l for f in ('tcp', 'tcp6') for l in open('/proc/net/' + f) if ' 0A ' in l and '0100007F:' not in l])"
    )
    async with kernel(workspace) as driven:
        assert driven.manager.transport == "ipc"
        assert await driven.run(listening) == "[]\n"
        sockets = sorted(provisioner(driven.manager)._kernel.connection.sockets)  # type: ignore[union-attr]
        await driven.restart()
        assert await driven.run(listening) == "[]\n"
        assert sorted(provisioner(driven.manager)._kernel.connection.sockets) == sockets  # type: ignore[union-attr]
        assert all(Path(path).is_socket() for path in sockets)


async def test_6_a_parent_pid_in_the_image_ends_no_kernel(kernels: Path, workspace: Path, slim: str) -> None:
    """Trap 6: with JPY_PARENT_PID in its environment a kernel below init takes its parent for dead and ends."""
    bare = docker("run", "--detach", "--init", "--env", "JPY_PARENT_PID=4242", "--network=none", slim,
                  "python3", "-m", "ipykernel_launcher", "-f", "/tmp/kernel.json")  # fmt: skip
    try:
        docker("wait", bare)  # sprung: it ends by itself
    finally:
        docker("rm", "--force", bare)
    box = docker("create", slim)
    try:
        docker("commit", "--change", "ENV JPY_PARENT_PID=4242", box, "tfgpu-test/orphaned")
    finally:
        docker("rm", box)
    try:
        install(kernels.parents[1], "orphaned", "--image", "tfgpu-test/orphaned", "--gpus", "none")
        async with kernel(workspace, "orphaned") as driven:
            await asyncio.sleep(3)
            assert await driven.run("import os; print('JPY_PARENT_PID' in os.environ)") == "False\n"
    finally:
        docker("rmi", "--force", "tfgpu-test/orphaned")


async def test_7_init_passes_signals_on(kernels: Path, workspace: Path, slim: str, engine: Engine) -> None:
    """Trap 7: a container's first process hears no TERM; with init a kernel stops at once, and SIGINT arrives."""
    bare = docker("run", "--detach", "--network=none", slim, "python3", "-c", "import time; time.sleep(60)")
    try:
        began = time.monotonic()
        docker("stop", "--time=2", bare)
        assert time.monotonic() - began > 2
        assert docker("inspect", "--format", "{{.State.ExitCode}}", bare) == "137"
    finally:
        docker("rm", "--force", bare)
    async with kernel(workspace) as driven:
        cell = asyncio.ensure_future(driven.run("open('runs', 'w').close()\nwhile True: pass"))
        while not (workspace / "runs").exists():
            await asyncio.sleep(0.05)
        await driven.manager.interrupt_kernel()
        assert "KeyboardInterrupt" in await asyncio.wait_for(cell, 10)
        container = provisioner(driven.manager)._kernel.container  # type: ignore[union-attr]
        began = time.monotonic()
        await engine.stop(container, 10)
        assert time.monotonic() - began < 5
        status = await engine.exit_status(container)
        assert status is not None
        assert status.code != 137


async def test_8_a_killed_server_leaves_no_orphans_for_good(
    kernels: Path, workspace: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 8: nobody polls a killed server, so its kernel runs on; an automatic sweep spares it, ``prune`` doesn't."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from tests.live.driving import kernel\n"
        "from pathlib import Path\n"
        "async def main():\n"
        "    async with kernel(Path(sys.argv[1])) as driven:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, str(workspace)], check=False)
    assert await containers(engine, workspace.parent) == ["running"]  # sprung
    monkeypatch.setattr("tfgpu_kernel.sweep._swept", set())  # as in a new process
    async with kernel(workspace):  # sweeps, and spares it
        assert await containers(engine, workspace.parent) == ["running", "running"]
    subprocess.run([sys.executable, "-m", "tfgpu_kernel.cli", "prune", "--running"], check=True, capture_output=True)
    assert await containers(engine, workspace.parent) == []


@pytest.fixture
def frozen(kernels: Path) -> str:
    """Make a kernelspec of an image as TensorFlow froze it in 2020: Python 3.6, to be completed; return its name."""
    install(kernels.parents[1], "frozen", "--image", made("frozen:py36"), "--gpus", "none")
    return "frozen"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(100)"])
async def test_9_python_36_is_interrupted_by_signal(frozen: str, workspace: Path, code: str) -> None:
    """Trap 9: ipykernel 5.5.6 knows no interrupt message; a signal stops its cell within a second."""
    async with kernel(workspace, frozen) as driven:
        assert "5.5.6" in await driven.run("import ipykernel; print(ipykernel.__version__)")
        await driven.run("kept = 7")
        cell = asyncio.ensure_future(driven.run(code))
        await asyncio.sleep(0.5)
        # Sprung: the message that kernelspecs with interrupt_mode "message" send is answered by nothing.
        driven.client.control_channel.send(driven.client.session.msg("interrupt_request", content={}))
        await asyncio.sleep(1)
        assert not cell.done()
        began = time.monotonic()
        await driven.manager.interrupt_kernel()
        assert "KeyboardInterrupt" in await cell
        assert time.monotonic() - began < 1
        assert await driven.run("print(kept)") == "7\n"


@pytest.mark.timeout(600)
async def test_10_old_kernels_may_write_their_connection_file(frozen: str, workspace: Path) -> None:
    """Trap 10: old kernels open the connection file for writing, and end where they may not; ours may."""
    async with kernel(workspace, frozen) as driven:
        running = provisioner(driven.manager)._kernel
        assert running is not None
        file = "/tfgpu/run/connection.json"
        told = await driven.run(f"import os, sys; print(sys.version_info[:2], os.access('{file}', os.W_OK))")
        assert told == "(3, 6) True\n"
        copy = workspace / "kernel.json"
        copy.write_text(
            json.dumps(json.loads(running.connection.container_file()) | {"ip": "/tmp/kernel"})
        )
        sprung = subprocess.run(
            ["docker", "run", "--rm", "--init", "--network=none", f"--volume={copy}:/kernel.json:ro",
             running.image.record.id, running.image.python, "-m", "ipykernel_launcher", "-f", "/kernel.json"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert sprung.returncode != 0
        assert "Read-only file system" in sprung.stderr


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[str]:
    """Return the address of an engine that takes every call and answers none."""
    path = str(tmp_path / "hung.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        yield f"unix://{path}"


HUNG_SECONDS = 3
"""How long a call to the hung engine is waited for; the client's own default is a minute."""


async def worst_lag(work: Awaitable[Any]) -> float:
    """Return the longest time that the event loop stood still while something was done, in seconds."""
    worst = 0.0

    async def feel() -> None:
        nonlocal worst
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - began - 0.01)

    feeling = asyncio.ensure_future(feel())
    await asyncio.sleep(0.05)
    await work
    await asyncio.sleep(0.05)
    feeling.cancel()
    return worst


async def test_11_a_call_on_the_loop_stalls_all(hung: str) -> None:
    """Trap 11, sprung: docker-py called in a coroutine holds the event loop until the engine has answered."""

    async def asked() -> None:
        with docker_py.APIClient(base_url=hung, version="1.41", timeout=HUNG_SECONDS) as api:
            with pytest.raises(ReadTimeout):
                api.info()

    assert await worst_lag(asked()) > HUNG_SECONDS / 2


async def test_11_a_hung_engine_stalls_nothing(
    kernels: Path, workspace: Path, hung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 11: docker-py blocks its caller; our calls do it on threads, one client each, and end by an error."""
    monkeypatch.setattr("tfgpu_kernel.engine.docker.INFO_SECONDS", HUNG_SECONDS)
    monkeypatch.setattr("tfgpu_kernel.sweep._swept", {hung})
    monkeypatch.setenv("DOCKER_HOST", hung)
    starts = asyncio.gather(*(start(workspace) for _ in range(4)))
    assert await worst_lag(starts) < HUNG_SECONDS / 2  # a blocked call would hold the loop for all of them
    errors = starts.result()
    assert all(isinstance(error, EngineNotAnswering) for error in errors), errors
    assert "takes" not in str(errors[0])
    await find.engine().close()
    find.forget(find.engine())


async def start(workspace: Path) -> Exception | None:
    """Try to start a kernel; return what went wrong."""
    try:
        async with kernel(workspace):
            return None
    except TfgpuError as error:
        return error
