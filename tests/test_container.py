"""The body of the create call, whole: what a kernel's container is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tfgpu_kernel import container
from tfgpu_kernel.config import KernelConfig
from tfgpu_kernel.engine.base import EngineInfo
from tfgpu_kernel.gpu.request import request
from tfgpu_kernel.identity import Identity
from tfgpu_kernel.labels import KernelLabels
from tfgpu_kernel.mounts import Bind, Cover, Mounts

ENGINE = EngineInfo(
    "26.1", "1.45", "linux", "x86_64", "host", "Debian", ("runc", "nvidia"), False, False, "/var/lib/docker", 8, 2**34
)


def body(gpus: tuple[str, ...] = (), engine: EngineInfo = ENGINE, **settings: Any) -> dict[str, Any]:
    """Return the create call's body for a kernel with these settings."""
    plan = container.Plan(
        config=KernelConfig(image="tf:1", **settings),
        image="sha256:1",
        python="/usr/bin/python3",
        identity=Identity(1000, 1001, (44,), "ada", 1000, 1001),
        mounts=Mounts(
            (Bind("/home/ada", "/home/ada", False), Bind("/r/io", "/tfgpu/run", False)),
            (Cover("/home/ada/.ssh", True), Cover("/home/ada/.netrc", False)),
        ),
        empty_file="/r/empty",
        cwd="/home/ada/nb",
        env={"JPY_SESSION_NAME": "/home/ada/nb/a.ipynb"},
        gpu=request(gpus),
        labels=KernelLabels(1000, "o", "/r", "tf:1", "c", gpus),
    )
    return container.create_args(plan, engine)


def test_the_whole_body() -> None:
    """The body is this and nothing else: no port, no capability, no environment but what is named."""
    made = body(memory=2**30, cpus=1.5)
    assert made.pop("Env") == [
        "CUDA_CACHE_MAXSIZE=2147483648",
        "CUDA_CACHE_PATH=/tfgpu/cache/cuda",
        "HOME=/tfgpu/home",
        "IPYTHONDIR=/tfgpu/home/.ipython",
        "JPY_SESSION_NAME=/home/ada/nb/a.ipynb",
        "LANG=C.UTF-8",
        "LOGNAME=ada",
        "NVIDIA_VISIBLE_DEVICES=void",
        "PYTHONNOUSERSITE=1",
        "TFDS_DATA_DIR=/tfgpu/cache/tensorflow-datasets",
        "TF_FORCE_GPU_ALLOW_GROWTH=true",
        "USER=ada",
        "JPY_PARENT_PID",
    ]
    rprivate = {"Propagation": "rprivate"}
    assert made.pop("HostConfig") == {
        "AutoRemove": False,
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "IpcMode": "private",
        "NetworkMode": "bridge",
        "RestartPolicy": {"Name": "no"},
        "PidsLimit": 4096,
        "ShmSize": 2**31,
        "Memory": 2**30,
        "MemorySwap": 2**30,
        "NanoCpus": 1_500_000_000,
        "GroupAdd": ["44"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}},
        "Mounts": [
            {"Type": "bind", "Source": "/home/ada", "Target": "/home/ada", "ReadOnly": False, "BindOptions": rprivate},
            {"Type": "bind", "Source": "/r/io", "Target": "/tfgpu/run", "ReadOnly": False, "BindOptions": rprivate},
            {
                "Type": "tmpfs",
                "Target": "/home/ada/.ssh",
                "ReadOnly": True,
                "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o555},
            },
            {"Type": "bind", "Source": "/r/empty", "Target": "/home/ada/.netrc", "ReadOnly": True},
        ],
    }
    assert made == {
        "Image": "sha256:1",
        "Entrypoint": [],
        "Cmd": ["/usr/bin/python3", "/tfgpu/run/boot.pyz", "/tfgpu/run/connection.json"],
        "User": "1000:1001",
        "WorkingDir": "/home/ada/nb",
        "Labels": {
            "io.tfgpu.kind": "kernel",
            "io.tfgpu.uid": "1000",
            "io.tfgpu.owner": "o",
            "io.tfgpu.run": "/r",
            "io.tfgpu.image": "tf:1",
            "io.tfgpu.config": "c",
            "io.tfgpu.gpus": "",
        },
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": False,
    }


def test_an_engine_that_fills_a_tmpfs_is_told_not_to() -> None:
    """podman's tmpfs begins with a copy of what it covers, so a covered ``.ssh`` would be seen."""
    host = body(engine=replace(ENGINE, fills_tmpfs=True))["HostConfig"]
    assert host["Tmpfs"] == {"/home/ada/.ssh": "ro,size=4096,mode=0555,notmpcopyup"}
    assert [mount["Target"] for mount in host["Mounts"]] == ["/home/ada", "/tfgpu/run", "/home/ada/.netrc"]


def test_granted_gpus_beat_the_environment() -> None:
    """Whatever env says of NVIDIA's variables, the container gets the granted GPUs alone."""
    made = body(("GPU-1", "GPU-2"), env=(("NVIDIA_VISIBLE_DEVICES", "all"),))
    assert "NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2" in made["Env"]
    assert made["HostConfig"]["Runtime"] == "nvidia"
    assert not any(entry.endswith("=all") for entry in made["Env"])


def test_user_settings_beat_the_defaults() -> None:
    """A default that only helps gives way to what the user says; so does which parts of the driver are lent."""
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in body(("GPU-1",))["Env"]
    asked = "compute,utility,video"
    made = body(("GPU-1",), env=(("NVIDIA_DRIVER_CAPABILITIES", asked),))
    assert [entry for entry in made["Env"] if "CAPABILITIES" in entry] == [f"NVIDIA_DRIVER_CAPABILITIES={asked}"]
    assert "TF_FORCE_GPU_ALLOW_GROWTH=false" in body(env=(("TF_FORCE_GPU_ALLOW_GROWTH", "false"),))["Env"]
