"""Single rungs of the doctor's ladder, judged from facts that are made up: pure."""

from __future__ import annotations

from dataclasses import replace

from tfgpu_kernel.engine.base import EngineInfo
from tfgpu_kernel.gpu.nvml import Gpu, Sample
from tfgpu_kernel.health import ladder
from tfgpu_kernel.health.facts import Facts, Machine
from tfgpu_kernel.health.findings import Finding

DOCKER = EngineInfo(
    "28.5", "1.51", "linux", "x86_64", "here", "Debian", ("runc", "nvidia"), False, False, "/d", 2, 2**30
)
MACHINE = Machine("Debian GNU/Linux 13", "debian", "6.12")
GPU = Gpu(0, "GPU-0", "A100", (8, 0), None, 0, processes={})


def rung(name: str, *gpus: Gpu, engine: EngineInfo = DOCKER) -> Finding:
    """Return one rung's finding on a machine with these GPUs."""
    facts = Facts(MACHINE, Sample("580.95", gpus or (GPU,)), "1.18.1", engine, "unix:///d.sock", 10**12, "some/image:1")
    return next(finding for finding in ladder.judge(facts) if finding.name == name)


def test_gpus_that_sleep_are_told_with_what_keeps_them_awake() -> None:
    """Without persistence mode a GPU that nobody uses makes starts slow; one in use, or where nobody knows, not."""
    asleep = rung("nvml", GPU, replace(GPU, index=1, persistent=False), replace(GPU, index=2, persistent=False))
    assert asleep.state == "warning"
    assert "GPU 1, 2 is shut down whenever nobody uses it" in asleep.message
    assert "nvidia-persistenced" in asleep.remedy
    for awake in (GPU, replace(GPU, persistent=True), replace(GPU, persistent=False, processes={7: 2**20})):
        assert rung("nvml", awake).state == "ok"


def test_podmans_remedies_are_podmans() -> None:
    """podman, which lists runtimes of its own, is told of NVIDIA's devices by CDI, and has no daemon to restart."""
    podman = replace(DOCKER, version="4.9.3", runtimes=("crun", "runc"), cdi=True, names_localhost=True)
    registered = rung("registered", engine=podman)
    assert registered.state == "broken"
    assert registered.remedy == "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml."
    assert rung("restart", engine=podman).state == "ok"
    docker = replace(DOCKER, runtimes=("runc",), cdi=True)
    assert "--runtime=docker" in rung("registered", engine=docker).remedy
    assert rung("restart", engine=docker).state == "warning"
