"""A kernel's life in a real container: start, cells, interrupt, restart, death, end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tfgpu_kernel.engine.base import Engine
from tfgpu_kernel.engine.docker import THREADS
from tfgpu_kernel.errors import TfgpuError
from tfgpu_kernel.provisioner import TfgpuProvisioner

from .conftest import install, made
from .driving import Driven, kernel


def inspected(driven: Driven) -> dict[str, Any]:
    """Return what the engine knows of a kernel's container."""
    provisioner = driven.manager.provisioner
    assert isinstance(provisioner, TfgpuProvisioner)
    assert provisioner._kernel is not None
    container = provisioner._kernel.container
    output = subprocess.run(["docker", "inspect", container], check=True, capture_output=True).stdout
    record: dict[str, Any] = json.loads(output)[0]
    return record


async def test_cells_run_in_the_workspace(kernels: Path, workspace: Path) -> None:
    """Cells run in the notebook's folder, at the host's own path, and what they write stays."""
    async with kernel(workspace) as driven:
        assert await driven.run("import os; print(os.getcwd())") == f"{workspace}\n"
        await driven.run("open('made', 'w').write('here')")
    assert (workspace / "made").read_text() == "here"
    assert (workspace / "made").stat().st_uid == workspace.stat().st_uid


async def test_images_are_listed(engine: Engine, slim: str) -> None:
    """All images are listed where no label is asked for, and none where none bears it; locks and prune look there."""
    record = await engine.image(slim)
    assert record is not None
    assert record.layers in {one.layers for one in await engine.images({})}
    assert await engine.images({"tfgpu-test.nobody": ""}) == []


async def test_container_is_closed(kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ports, no capabilities, no new privileges, exactly our mounts, nothing of the server's environment."""
    monkeypatch.setenv("TFGPU_TEST_CANARY", "sings")
    async with kernel(workspace) as driven:
        record = inspected(driven)
        status = await driven.run("print(open('/proc/self/status').read())")
        inside = await driven.run("import os; print(dict(os.environ))")
        key = driven.manager.session.key.decode()
    host = record["HostConfig"]
    assert not host["PortBindings"]
    assert not record["NetworkSettings"]["Ports"]
    assert host["CapDrop"] == ["ALL"] or len(host["CapDrop"]) > 10, "podman names each that it drops"
    assert not host["CapAdd"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["Init"] is True
    assert host["ShmSize"] == 2 * 2**30
    assert not host["Privileged"]
    mounts = {mount["Destination"]: mount["RW"] for mount in record["Mounts"]}
    ours = {str(workspace), "/tfgpu/run", "/tfgpu/cache", "/tfgpu/packages"}
    assert {target for target, writable in mounts.items() if writable} == ours
    assert all(target.startswith("/tfgpu/site/") for target in set(mounts) - ours), "pip's sites are lent read-only"
    for word in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert word in status
    assert "sings" not in inside
    assert "sings" not in json.dumps(record)
    assert "JPY_PARENT_PID" not in inside
    assert key not in json.dumps(record)


async def test_its_processes_are_limited(kernels: Path, workspace: Path, engine: Engine) -> None:
    """4096 processes at most; a rootless engine on cgroup v1 sets no limits, and says so of the container."""
    async with kernel(workspace) as driven:
        limit = inspected(driven)["HostConfig"]["PidsLimit"]
    if await sets_no_limits(engine):
        assert not limit
        pytest.skip("as expected there is no limit: a rootless engine sets none on cgroup v1")
    assert limit == 4096


async def sets_no_limits(engine: Engine) -> bool:
    """Say whether the engine takes limits and sets none: rootless on cgroup v1."""
    asked = ["docker", "info", "--format", "{{.CgroupVersion}}"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return (await engine.info()).rootless and version == "1"


async def test_kernel_is_the_workspace_owner_when_the_server_is_root(kernels: Path, workspace: Path) -> None:
    """Under a root server, cells run as the workspace's owner, and the files they make are the owner's."""
    if os.geteuid() != 0:
        pytest.skip("this is about a server that runs as root")
    os.chown(workspace, 12345, 12345)
    parent = workspace.parent
    while parent != Path("/"):  # pytest's folders are for root alone
        parent.chmod(parent.stat().st_mode | 0o011)
        parent = parent.parent
    async with kernel(workspace) as driven:
        told = await driven.run("import os, getpass; print(os.getuid(), getpass.getuser())")
        assert told == "12345 user12345\n"
        assert inspected(driven)["Config"]["User"] == "12345:12345"
        await driven.run("open('made', 'w').write('x')")
    assert (workspace / "made").stat().st_uid == 12345


INTERRUPTED = """
import time
try:
    open('runs', 'w').close()
    %s
except KeyboardInterrupt:
    print(time.time())
    raise
"""
"""Says when it runs, and when it was interrupted: the first traceback takes IPython a while."""


@pytest.mark.parametrize("code", ["while True: pass", "time.sleep(100)"])
async def test_interrupt(kernels: Path, workspace: Path, code: str) -> None:
    """An interrupt ends a cell with KeyboardInterrupt, soon, and the kernel's state survives."""
    async with kernel(workspace) as driven:
        await driven.run("kept = 7")
        cell = asyncio.ensure_future(driven.run(INTERRUPTED % code))
        while not (workspace / "runs").exists():
            await asyncio.sleep(0.05)
        began = time.time()
        await driven.manager.interrupt_kernel()
        raised, name = (await cell).split()
        assert name == "KeyboardInterrupt"
        assert float(raised) - began < 1
        assert await driven.run("print(kept)") == "7\n"


async def test_restart_keeps_the_channels(kernels: Path, workspace: Path) -> None:
    """After a restart the client's channels reach the new kernel, which knows nothing of the old one."""
    async with kernel(workspace) as driven:
        await driven.run("old = 1; open(__import__('os').path.expanduser('~/left'), 'w').write('x')")
        before = inspected(driven)["Id"]
        await driven.restart()
        assert "NameError" in await driven.run("old")
        assert await driven.run("import os; print(os.path.exists(os.path.expanduser('~/left')))") == "False\n"
        assert inspected(driven)["Id"] != before


def held(runtime: Path) -> dict[str, int]:
    """Return what kernels could leave behind: this test's containers and socket files, our descriptors and threads."""
    listing = subprocess.run(
        ["docker", "ps", "--all", "--filter", "label=io.tfgpu.kind=kernel", "--format", "{{.Label \"io.tfgpu.run\"}}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    process = psutil.Process()
    return {
        "containers": len([run for run in listing if run.startswith(str(runtime))]),
        "sockets": len([path for path in runtime.rglob("*") if path.is_socket()]),
        "folders": len(list(runtime.glob("tfgpu/*"))),
        "files": len([path for path in runtime.rglob("*") if path.is_file()]),
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
    }


async def test_restarts_leak_nothing(kernels: Path, workspace: Path) -> None:
    """Twenty restarts in a row leave no container, socket, file, descriptor or thread behind."""
    runtime = workspace.parent / "runtime"
    async with kernel(workspace) as driven:
        await driven.restart()
        before = held(runtime)
        assert before["containers"] == before["folders"] == 1
        assert before["sockets"] == 5
        for _ in range(20):
            await driven.restart()
        after = held(runtime)
    # The engine's threads, each with a connection, come up to their number as they are needed.
    assert after.pop("descriptors") <= before.pop("descriptors") + THREADS
    assert after.pop("threads") <= before.pop("threads") + THREADS
    assert after == before


async def test_ten_kernels_at_once(kernels: Path, workspace: Path) -> None:
    """Ten kernels start at once, each with its own state, and all of them end, with all that was theirs."""
    runtime = workspace.parent / "runtime"
    living, together = 0, asyncio.Event()

    async def one(number: int) -> str:
        nonlocal living
        async with kernel(workspace) as driven:
            living += 1
            if living % 10 == 0:  # all ten live, and none goes on before they are counted
                assert held(runtime)["containers"] == 10
                together.set()
            await together.wait()
            return await driven.run(f"print({number} ** 2)")

    async def ten() -> None:
        together.clear()
        assert await asyncio.gather(*(one(number) for number in range(10))) == [
            f"{number**2}\n" for number in range(10)
        ]

    await ten()
    before = held(runtime)
    assert before["containers"] == before["sockets"] == before["folders"] == 0
    await ten()
    after = held(runtime)
    assert after["containers"] == after["sockets"] == after["folders"] == 0
    assert after["descriptors"] <= before["descriptors"] + 2  # all of the engine's threads were there before
    assert after["threads"] <= before["threads"] + 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["tf:py311", "frozen:py36"])
async def test_interrupt_of_a_training(kernels: Path, workspace: Path, name: str) -> None:
    """A running model.fit ends with KeyboardInterrupt within a second, on TF 2.21 and on TF 2.1; the state lives."""
    install(kernels.parents[1], "tf", "--image", made(name), "--gpus", "none")
    async with kernel(workspace, "tf") as driven:
        told = await driven.run(
            "import numpy as np, tensorflow as tf\n"
            "tf.get_logger().setLevel('ERROR')\n"
            "model = tf.keras.Sequential([tf.keras.layers.Dense(64, activation='relu'), tf.keras.layers.Dense(1)])\n"
            "model.compile('sgd', 'mse')\n"
            "x, y = np.random.rand(4096, 32).astype('f4'), np.random.rand(4096, 1).astype('f4')\n"
            "model.fit(x, y, epochs=1, verbose=0); print(tf.__version__)"
        )
        assert told.strip().endswith({"tf:py311": "2.21.0", "frozen:py36": "2.1.0"}[name])
        # The cell tells when it was raised: IPython may take seconds to read TensorFlow's sources for the traceback.
        cell = asyncio.ensure_future(
            driven.run(
                "import time\n"
                "try:\n    model.fit(x, y, epochs=100000, verbose=0)\n"
                "except KeyboardInterrupt:\n    print(time.time()); raise"
            )
        )
        await asyncio.sleep(2)
        assert not cell.done()
        began = time.time()
        await driven.manager.interrupt_kernel()
        raised, told = (await cell).split("\n", 1)
        assert "KeyboardInterrupt" in told
        assert float(raised) - began < 1
        assert "(2, 1)" in await driven.run("print(model(x[:2]).shape)")


async def test_death_is_noticed_and_explained(kernels: Path, workspace: Path) -> None:
    """A kernel that is killed counts as dead at once, with the signal's name; nothing is polled."""
    async with kernel(workspace) as driven:
        provisioner = driven.manager.provisioner
        assert isinstance(provisioner, TfgpuProvisioner)
        assert provisioner._kernel is not None
        driven.client.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        code = await asyncio.wait_for(asyncio.wrap_future(provisioner._kernel.end), 5)
        assert code.code == 128 + signal.SIGKILL
        assert await provisioner.poll() == 128 + signal.SIGKILL
        assert "SIGKILL" in str(provisioner._report)


async def test_memory_limit_is_named(kernels: Path, workspace: Path, slim: str, engine: Engine) -> None:
    """A kernel beyond its memory is told as such, with the limit."""
    if await sets_no_limits(engine):
        pytest.skip("a rootless engine sets no limits on cgroup v1")
    install(kernels.parents[1], "small", "--image", slim, "--gpus", "none", "--memory", "256m")
    async with kernel(workspace, "small") as driven:
        provisioner = driven.manager.provisioner
        assert isinstance(provisioner, TfgpuProvisioner)
        assert provisioner._kernel is not None
        driven.client.execute("x = bytearray(2**30)\nx[::4096] = b'1' * len(x[::4096])")
        await asyncio.wait_for(asyncio.wrap_future(provisioner._kernel.end), 30)
        await provisioner.poll()
        assert "out of memory" in str(provisioner._report)
        assert "256 MiB" in str(provisioner._report)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--image", "tfgpu-test/absent", "--pull", "never", "--gpus", "none"], "not on this machine"),
        (["--image", "{slim}"], "no usable NVIDIA GPU"),
        (["--image", "{slim}", "--gpus", "none", "--workspace", "/etc"], "part of the machine's own system"),
    ],
)
async def test_failed_start_says_why_and_leaves_nothing(
    kernels: Path, workspace: Path, slim: str, settings: list[str], said: str
) -> None:
    """A start that fails says what happened and what to do; the next one works."""
    install(kernels.parents[1], "bad", *(word.format(slim=slim) for word in settings))
    with pytest.raises(TfgpuError, match=said) as failure:
        async with kernel(workspace, "bad"):
            pass
    assert "What to do:" in str(failure.value)
    async with kernel(workspace) as driven:
        assert await driven.run("print(1)") == "1\n"


async def test_home_shows_no_secrets(
    kernels: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home folder as the workspace works; its dot-entries are empty inside."""
    (workspace / ".ssh").mkdir()
    (workspace / ".ssh/id").write_text("secret")
    (workspace / ".netrc").write_text("secret")
    (workspace / "notes").write_text("mine")
    monkeypatch.setenv("HOME", str(workspace))
    async with kernel(workspace) as driven:
        assert await driven.run("print(open('notes').read())") == "mine\n"
        assert await driven.run("import os; print(os.listdir('.ssh'), repr(open('.netrc').read()))") == "[] ''\n"
    assert (workspace / ".ssh/id").read_text() == "secret"


async def test_network_none(kernels: Path, workspace: Path, slim: str) -> None:
    """Without any network the kernel serves its cells all the same, and ``localhost`` has its address."""
    install(kernels.parents[1], "alone", "--image", slim, "--gpus", "none", "--network", "none")
    async with kernel(workspace, "alone") as driven:
        assert await driven.run("import os; print(os.listdir('/sys/class/net'))") == "['lo']\n"
        assert await driven.run("import socket; print(socket.gethostbyname('localhost'))") == "127.0.0.1\n"


async def test_resolve_path(kernels: Path, workspace: Path) -> None:
    """Paths that a kernel names are found on the host; those of the container's own system are not."""
    (workspace / "a.py").touch()
    async with kernel(workspace) as driven:
        assert driven.manager.resolve_path("a.py") == str(workspace / "a.py")
        assert driven.manager.resolve_path("/usr/lib/python3.11/os.py") is None
