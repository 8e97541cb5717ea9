"""From a kernel's settings to the body of Docker's ``POST /containers/create``: pure, and all in one place."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .config import KernelConfig
from .connection import CONNECTION_FILE, CONTAINER_FOLDER
from .engine.base import EngineInfo
from .gpu.request import VISIBLE, GpuRequest
from .identity import Identity
from .labels import KernelLabels
from .mounts import CONTAINER_CACHE, CONTAINER_HOME, Mounts
from .runfolder import BOOT_FILE

CUDA_CACHE_BYTES: Final = 2 * 2**30
"""CUDA's cache of compiled kernels; its default of 1 GiB is too small for TensorFlow on a new GPU."""
LOG_SIZE: Final = "10m"
"""What a kernel prints past its cells is kept up to this; it is for reading the cause of a death."""


@dataclass(frozen=True)
class Plan:
    """All that a kernel's container is made from."""

    config: KernelConfig
    image: str
    python: str
    identity: Identity
    mounts: Mounts
    empty_file: str
    """Path on the host of an empty file, to cover files with."""
    cwd: str
    env: Mapping[str, str]
    """What the caller wants in the kernel's environment."""
    gpu: GpuRequest
    labels: KernelLabels


def create_args(plan: Plan, engine: EngineInfo) -> dict[str, Any]:
    """Return the body of the create call."""
    config = plan.config
    return {
        "Image": plan.image,
        "Entrypoint": [],
        "Cmd": [
            plan.python,
            f"{CONTAINER_FOLDER}/{BOOT_FILE}",
            f"{CONTAINER_FOLDER}/{CONNECTION_FILE}",
        ],
        "User": f"{plan.identity.uid}:{plan.identity.gid}",
        "WorkingDir": plan.cwd,
        "Env": _environment(plan),
        "Labels": {**dict(config.labels), **plan.labels.to_docker()},
        "StopSignal": signal.Signals.SIGTERM.name,
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": config.network == "none",
        "HostConfig": {
            "AutoRemove": False,  # the cause of a death is read from the dead container
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": _security(engine),
            "Privileged": False,
            "IpcMode": "private",
            "NetworkMode": config.network,
            "RestartPolicy": {"Name": "no"},
            "PidsLimit": config.pids_limit,
            "ShmSize": config.shm_size,
            "Memory": config.memory or 0,
            "MemorySwap": config.memory or 0,  # no swap: beyond its memory a kernel ends, and says so
            "NanoCpus": round((config.cpus or 0) * 1e9),
            "GroupAdd": [str(gid) for gid in plan.identity.groups],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": "1"}},
            "Mounts": _mounts(plan.mounts, plan.empty_file, engine),
            **({"Tmpfs": _unfilled(plan.mounts)} if engine.fills_tmpfs else {}),
            # The kernel has no capabilities and is not root, so the map of user ids would only make its
            # files somebody else's.
            **({"UsernsMode": "host"} if engine.userns_remap else {}),
            **plan.gpu.host_config,
        },
    }


def _environment(plan: Plan) -> list[str]:
    """Return the environment as Docker takes it: defaults, what the caller wants, what must be ours."""
    defaults = {
        "LANG": "C.UTF-8",  # Python 3.6 reads and writes ASCII without it
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # else the first notebook takes all of a GPU's memory
        "TFDS_DATA_DIR": f"{CONTAINER_CACHE}/tensorflow-datasets",
        "CUDA_CACHE_PATH": f"{CONTAINER_CACHE}/cuda",
        "CUDA_CACHE_MAXSIZE": str(CUDA_CACHE_BYTES),
        # Which parts of the driver are lent is the user's choice; which GPUs are is not.
        **{name: text for name, text in plan.gpu.env.items() if name != VISIBLE},
    }
    ours = {
        "HOME": CONTAINER_HOME,
        "USER": plan.identity.name,
        "LOGNAME": plan.identity.name,
        "PYTHONNOUSERSITE": "1",
        "IPYTHONDIR": f"{CONTAINER_HOME}/.ipython",
        **{name: text for name, text in plan.gpu.env.items() if name == VISIBLE},
    }
    values = {**defaults, **plan.env, **dict(plan.config.env), **ours}
    # A name without "=" takes the variable away, should the image set it: with init in between, ipykernel
    # would take its parent for dead and end.
    return [*(f"{name}={value}" for name, value in sorted(values.items())), "JPY_PARENT_PID"]


def _security(engine: EngineInfo) -> Sequence[str]:
    """Return the security options; under SELinux labels are off, since relabelling a workspace harms it."""
    return ["no-new-privileges", *(["label=disable"] if engine.selinux else [])]


def _unfilled(mounts: Mounts) -> dict[str, str]:
    """Return the covers of folders where a plain tmpfs would show what it is to hide; Docker knows no such option."""
    return {cover.target: "ro,size=4096,mode=0555,notmpcopyup" for cover in mounts.covers if cover.is_folder}


def _mounts(mounts: Mounts, empty_file: str, engine: EngineInfo) -> list[dict[str, Any]]:
    binds = [
        {
            "Type": "bind",
            "Source": bind.source,
            "Target": bind.target,
            "ReadOnly": bind.read_only,
            "BindOptions": {"Propagation": "rprivate"},
        }
        for bind in mounts.binds
    ]
    covers: list[dict[str, Any]] = [
        {
            "Type": "tmpfs",
            "Target": cover.target,
            "ReadOnly": True,
            "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o555},
        }
        if cover.is_folder
        else {"Type": "bind", "Source": empty_file, "Target": cover.target, "ReadOnly": True}
        for cover in mounts.covers
        if not (cover.is_folder and engine.fills_tmpfs)
    ]
    return binds + covers
