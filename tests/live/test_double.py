"""The doubled NVIDIA runtime, registered with a real Docker engine, behaves as NVIDIA's does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles import engine as own_engine
from tests.doubles import state as doubled
from tests.doubles.build import MULTIARCH
from tests.doubles.engine import TINY, Daemon
from tests.doubles.state import State, machine, partitioned
from tests.doubles.toolkit import Toolkit

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None,
    reason="an engine of one's own needs root and dockerd",
)


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    """Return a machine with NVIDIA's driver and toolkit."""
    folder = tmp_path_factory.mktemp("nvidia")
    return Toolkit.install(folder, machine(2))


@pytest.fixture(scope="module")
def daemon(toolkit: Toolkit) -> Iterator[Daemon]:
    """Return an engine that knows the runtime, with a tiny image in it."""
    with own_engine.running({"nvidia": toolkit.runtime}) as daemon:
        imported = daemon.docker("import", "-", TINY, stdin=own_engine.tiny_root())
        assert imported.returncode == 0, imported.stdout
        yield daemon


@pytest.fixture
def nvidia(toolkit: Toolkit) -> Toolkit:
    """Return the machine with two whole GPUs, whatever the last test made of it."""
    toolkit.set(machine(2))
    return toolkit


def run(daemon: Daemon, devices: str | None, *command: str, env: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run a command in a container that asks for GPUs, as our kernels do: other user, no capabilities."""
    settings = [] if devices is None else [f"--env=NVIDIA_VISIBLE_DEVICES={devices}"]
    done = daemon.docker(
        "run", "--rm", "--runtime=nvidia", "--network=none", "--user=1000:1000", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", *settings, *(f"--env={entry}" for entry in env), TINY, *command,
    )  # fmt: skip
    return done.returncode, done.stdout


def uuids(state: State) -> list[str]:
    """Return the GPUs' UUIDs in order."""
    return [gpu.uuid for gpu in state.gpus]


def test_all_lists_every_gpu(daemon: Daemon, nvidia: Toolkit) -> None:
    """``all`` brings each GPU, its device node, and a working nvidia-smi."""
    code, output = run(daemon, "all", "nvidia-smi", "-L")
    assert (code, output.splitlines()) == (
        0,
        [f"GPU {i}: NVIDIA A100-SXM4-40GB (UUID: {uuid})" for i, uuid in enumerate(uuids(machine(2)))],
    )


@pytest.mark.parametrize("name", ["1", uuids(machine(2))[1]])
def test_one_gpu_by_index_or_uuid(daemon: Daemon, nvidia: Toolkit, name: str) -> None:
    """One GPU asked for is the only one seen, and bears index 0 inside."""
    code, output = run(daemon, name, "nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
    assert (code, output) == (0, f"0, {uuids(machine(2))[1]}\n")
    assert "nvidia1" in run(daemon, name, "ls", "/dev")[1].split()
    assert "nvidia0" not in run(daemon, name, "ls", "/dev")[1].split()


@pytest.mark.parametrize("value", ["void", "", None])
def test_void_is_no_gpu_container(daemon: Daemon, nvidia: Toolkit, value: str | None) -> None:
    """``void``, nothing and an empty value leave the container as runc makes it."""
    assert "nvidia" not in run(daemon, value, "ls", "/dev", "/usr/bin")[1]


def test_none_brings_files_and_no_gpu(daemon: Daemon, nvidia: Toolkit) -> None:
    """``none`` is another thing than ``void``: nvidia-smi is there, and finds no driver to talk to."""
    code, output = run(daemon, "none", "nvidia-smi", "-L")
    assert code == 9
    assert "couldn't communicate with the NVIDIA driver" in output


def test_capabilities_choose_the_files(daemon: Daemon, nvidia: Toolkit) -> None:
    """``compute`` alone brings libcuda and no nvidia-smi."""
    _, output = run(
        daemon, "all", "ls", f"/usr/lib/{MULTIARCH}", "/usr/bin", env=("NVIDIA_DRIVER_CAPABILITIES=compute",)
    )
    assert "libcuda.so.1" in output
    assert "nvidia-smi" not in output


def test_a_mig_device_brings_itself_alone(daemon: Daemon, nvidia: Toolkit) -> None:
    """A MIG device asked for is seen, its neighbour on the same GPU is not."""
    state = partitioned()
    nvidia.set(state)
    first, second = (device.uuid for device in state.gpus[0].mig)
    _, output = run(daemon, second, "nvidia-smi", "-L")
    assert second in output
    assert first not in output


@pytest.mark.parametrize("mode", ["legacy", "cdi"])
def test_grants_are_noted(daemon: Daemon, nvidia: Toolkit, mode: str) -> None:
    """The log tells which container got which GPU, in both of the toolkit's modes."""
    nvidia.set(machine(2, mode=mode))
    uuid = uuids(machine(2))[0]
    container = daemon.docker(
        "create", "--runtime=nvidia", "--network=none", f"--env=NVIDIA_VISIBLE_DEVICES={uuid}", TINY, "env"
    ).stdout.strip()
    output = daemon.docker("start", "--attach", container).stdout
    assert nvidia.granted(container) == [uuid]
    assert f"NVIDIA_VISIBLE_DEVICES={'void' if mode == 'cdi' else uuid}" in output.splitlines()
    daemon.docker("rm", container)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (machine(2), "nvidia-container-cli: device error: GPU-dead-beef: unknown device"),
        (machine(2, mode="cdi"), "failed to get device handle from UUID: Not Found"),
        (
            machine(2, library=False),
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
            "object file: no such file or directory",
        ),
        (
            machine(2, errors={"nvmlInit_v2": doubled.DRIVER_NOT_LOADED}),
            "nvidia-container-cli: initialization error: nvml error: driver not loaded",
        ),
        (
            machine(2, errors={"nvmlInit_v2": doubled.VERSION_MISMATCH}),
            "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch",
        ),
        (
            machine(2, refusal="mount error: failed to add device rules: bpf_prog_query(BPF_CGROUP_DEVICE) failed: "
                    "operation not permitted"),
            "bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted",
        ),
    ],
)  # fmt: skip
def test_failures_have_nvidias_words(daemon: Daemon, nvidia: Toolkit, state: State, text: str) -> None:
    """A container that can't have its GPU doesn't start, and the daemon shows NVIDIA's own text."""
    nvidia.set(state)
    code, output = run(daemon, "GPU-dead-beef", "nvidia-smi", "-L")
    assert code != 0
    assert text in output
    assert "OCI runtime create failed" in output


def test_a_driver_too_old_for_the_image(daemon: Daemon, nvidia: Toolkit) -> None:
    """An image that requires a newer CUDA is refused, unless told not to check."""
    nvidia.set(replace(machine(1), cuda=12020))
    required = "NVIDIA_REQUIRE_CUDA=cuda>=12.3 brand=tesla,driver>=470,driver<471"
    assert "unsatisfied condition: cuda>=12.3" in run(daemon, "all", "nvidia-smi", env=(required,))[1]
    assert run(daemon, "all", "nvidia-smi", env=(required, "NVIDIA_DISABLE_REQUIRE=true"))[0] == 0


def test_a_gpu_goes_under_a_running_container(daemon: Daemon, nvidia: Toolkit) -> None:
    """The state is live inside: a GPU that falls off the bus on the host is lost in the container."""
    container = daemon.docker(
        "run",
        "--detach",
        "--runtime=nvidia",
        "--network=none",
        "--env=NVIDIA_VISIBLE_DEVICES=all",
        TINY,
        "sleep",
        "60",
    ).stdout.strip()
    assert daemon.docker("exec", container, "nvidia-smi", "-L").returncode == 0
    nvidia.set(machine(2).with_gpu(0, errors={doubled.EVERY: doubled.GPU_IS_LOST}))
    assert "GPU is lost" in daemon.docker("exec", container, "nvidia-smi", "-L").stdout
    daemon.docker("rm", "--force", container)


def test_a_daemon_reload_takes_the_devices(daemon: Daemon, nvidia: Toolkit) -> None:
    """Taking the devices out of the container's cgroup, as systemd does, gives ``NVML: Unknown Error`` inside."""
    container = daemon.docker(
        "run",
        "--detach",
        "--runtime=nvidia",
        "--network=none",
        "--env=NVIDIA_VISIBLE_DEVICES=all",
        TINY,
        "sleep",
        "60",
    ).stdout.strip()
    groups = list(Path("/sys/fs/cgroup/devices").glob(f"**/{container}/devices.deny"))
    if not groups:
        daemon.docker("rm", "--force", container)
        pytest.skip("the device rules of cgroup v2 are a program that can't be edited from outside")
    for rule in groups[0].with_name("devices.list").read_text().splitlines():
        if rule.startswith("c 195:"):
            groups[0].write_text(rule)
    assert "Failed to initialize NVML: Unknown Error" in daemon.docker("exec", container, "nvidia-smi").stdout
    daemon.docker("rm", "--force", container)
