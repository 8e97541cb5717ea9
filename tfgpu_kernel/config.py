"""What a kernel is to be like: one frozen record, made once from a door's raw settings.

The doors (the provisioner's traits, the command line) hand over strings and numbers as people write them;
:func:`parse` judges them and says what is allowed, before anything is started. An option that Docker has
bears Docker's long name and takes Docker's notation.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from packaging.requirements import InvalidRequirement, Requirement

from . import imagename
from .errors import ConfigError
from .labels import PREFIX

Pull = Literal["missing", "always", "never"]
OnServerStop = Literal["shutdown", "detach"]
Sharing = Literal["shared", "exclusive"]
WhenFull = Literal["wait", "fail", "cpu"]
GpuWay = Literal["auto", "runtime", "cdi", "device-request"]
"""How a container is asked for with GPUs, see :mod:`tfgpu_kernel.gpu.request`."""
Gpus = int | Literal["all"] | tuple[str, ...]
"""How many GPUs (0 for none), all of them, or these (index, UUID or MIG UUID)."""

AUTO: Final = "auto"
"""The image's name that leaves the choice to us, see :mod:`tfgpu_kernel.image.choice`."""
DEFAULT_IMAGE: Final = "tensorflow/tensorflow:latest-gpu-py3"
"""What ``auto`` chooses wherever GPU and driver can run it."""
MIN_MEMORY: Final = 128 * 2**20
"""Below this not even Python with ipykernel starts."""

_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NETWORK: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_SYSTEM_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?", re.ASCII)
_USER: Final = re.compile(r"(?P<uid>\d+)(?::(?P<gid>\d+))?")
# The grammar of image references, in brief: no blanks, no leading dash (it would read as an option).
_IMAGE: Final = re.compile(
    r"(?:sha256:)?[a-zA-Z0-9][a-zA-Z0-9._/:-]*(?:@sha256:[0-9a-f]{64})?", re.ASCII
)


@dataclass(frozen=True)
class MountRequest:
    """One further folder or file of the host, as asked for; not yet judged."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class LockedImage:
    """What a notebook's lock says the image must be; no setting, it comes from the notebook after a consent."""

    layers: tuple[str, ...]
    """The diff_ids of the image."""
    added: tuple[str, ...] = ()
    """Lines of a requirements file, with hashes: what is added to it."""
    completed: tuple[str, ...] = ()
    """The diff_ids that the image had when that was added where it was locked; elsewhere it is added anew."""


@dataclass(frozen=True)
class KernelConfig:
    """All settings of one kernel. Sizes in bytes, times in seconds; None means no limit of ours."""

    image: str = AUTO
    gpus: Gpus = 1
    gpu_required: bool = True
    gpu_sharing: Sharing = "shared"
    when_full: WhenFull = "fail"
    gpu_request: GpuWay = "auto"
    extras: bool = True
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    workspace: str = ""
    mounts: tuple[MountRequest, ...] = ()
    mount_roots: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    network: str = "bridge"
    memory: int | None = None
    cpus: float | None = None
    shm_size: int = 2 * 2**30
    pids_limit: int = 4096
    user: tuple[int, int | None] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    pull: Pull = "missing"
    pull_timeout: float = 3600.0
    launch_timeout: float = 60.0
    on_server_stop: OnServerStop = "shutdown"
    grace_busy: float = 24 * 3600.0
    grace_idle: float = 3600.0
    locked: LockedImage | None = None
    gpu_idle_timeout: float = 0.0
    gpu_idle_warning: float = 600.0
    preload: tuple[str, ...] = ("tensorflow", "matplotlib.pyplot")
    pool_size: int = 1
    pool_memory: int = 4 * 2**30

    def fingerprint(self) -> str:
        """Return a short hash that differs where any setting differs."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(settings: Mapping[str, Any]) -> KernelConfig:
    """Make the record from settings as people write them; names as in :class:`KernelConfig`.

    :raises ConfigError: at the first value that can't be used, with what is allowed.
    """
    return KernelConfig(
        image=image_reference(settings["image"]),
        gpus=gpus(settings["gpus"]),
        gpu_required=bool(settings["gpu_required"]),
        gpu_sharing=choice("gpu_sharing", settings["gpu_sharing"], Sharing),
        when_full=choice("when_full", settings["when_full"], WhenFull),
        gpu_request=choice("gpu_request", settings["gpu_request"], GpuWay),
        extras=bool(settings["extras"]),
        packages=tuple(package(text) for text in settings["packages"]),
        system_packages=tuple(system_package(text) for text in settings["system_packages"]),
        workspace=str(settings["workspace"]),
        mounts=tuple(mount(entry) for entry in settings["mounts"]),
        mount_roots=tuple(settings["mount_roots"]),
        env=tuple(sorted(environment(settings["env"]).items())),
        network=network(settings["network"]),
        memory=size("memory", settings["memory"], least=MIN_MEMORY),
        cpus=cpus(settings["cpus"]),
        shm_size=size("shm_size", settings["shm_size"], least=2**20) or KernelConfig.shm_size,
        pids_limit=at_least("pids_limit", settings["pids_limit"], 64),
        user=user(settings["user"]),
        labels=tuple(sorted(user_labels(settings["labels"]).items())),
        pull=choice("pull", settings["pull"], Pull),
        pull_timeout=seconds("pull_timeout", settings["pull_timeout"]),
        launch_timeout=seconds("launch_timeout", settings["launch_timeout"]),
        on_server_stop=choice("on_server_stop", settings["on_server_stop"], OnServerStop),
        grace_busy=seconds("grace_busy", settings["grace_busy"]),
        grace_idle=seconds("grace_idle", settings["grace_idle"]),
        gpu_idle_timeout=not_negative("gpu_idle_timeout", settings["gpu_idle_timeout"]),
        gpu_idle_warning=not_negative("gpu_idle_warning", settings["gpu_idle_warning"]),
        preload=tuple(module(name) for name in settings["preload"]),
        pool_size=at_least("pool_size", settings["pool_size"], 0),
        pool_memory=size("pool_memory", settings["pool_memory"], least=MIN_MEMORY) or KernelConfig.pool_memory,
    )


def image_reference(value: str) -> str:
    """Check that a text could name an image, by the grammar of github.com/distribution/reference."""
    if not _IMAGE.fullmatch(value):
        raise _bad("image", value, "auto, a preset such as tf2.17-gpu (jupyter tfgpu image list --presets), a "
                   "reference such as tensorflow/tensorflow:2.17.0-gpu, or an image id")  # fmt: skip
    first, slash, rest = imagename.repository(value).partition("/")
    host = slash and (first == "localhost" or "." in first or ":" in first)
    small = f"{first if host else first.lower()}{slash}{rest.lower()}"
    if small != f"{first}{slash}{rest}":
        raise _bad("image", value, f"names in small letters, so {small}; only a tag may have capitals")
    return value


def gpus(value: object) -> Gpus:
    """Read a GPU request: a count, "all", "none", or which ones: a list, or ``device=0,2`` as Docker writes it."""
    allowed = '0, 1, 2, … (how many), "all", "none", or which ones: "device=0", or a list such as ["0", "GPU-1a2b…"]'
    if isinstance(value, bool):
        raise _bad("gpus", value, allowed)
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, str):
        text = value.strip()
        if text == "all":
            return "all"
        if text == "none":
            return 0
        if text.isdecimal():
            return int(text)
        if "," in text or text.startswith(("device=", "GPU-", "MIG-")):
            value = text.removeprefix("device=").split(",")
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        devices = tuple(str(item).strip() for item in value)
        if all(re.fullmatch(r"\d+(?::\d+)?|(?:GPU|MIG)-[A-Za-z0-9/-]+", device) for device in devices):
            if len(set(devices)) == len(devices):
                return devices
            raise _bad("gpus", value, "each GPU once")
    raise _bad("gpus", value, allowed)


def package(text: str) -> str:
    """Check one requirement (PEP 508); no options, no URLs."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _bad("packages", text, "requirements such as seaborn or pandas>=2,<3") from error
    if requirement.url:
        raise _bad("packages", text, "names with versions; packages by URL are not supported")
    return str(requirement)


def system_package(text: str) -> str:
    """Check one package's name as apt has it (Debian policy 5.6.1), with a version if need be."""
    if not _SYSTEM_PACKAGE.fullmatch(text):
        raise _bad("system_packages", text, "names of Debian's or Ubuntu's packages, such as git or graphviz")
    return text


def module(name: str) -> str:
    """Check the name of a module, such as ``matplotlib.pyplot``."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise _bad("preload", name, "names of modules, such as tensorflow or matplotlib.pyplot")
    return name


def mount(entry: object) -> MountRequest:
    """Read ``"SOURCE[:TARGET][:ro|rw]"`` or ``{"source", "target", "read_only"}``; ro by default."""
    allowed = 'an absolute path, "SOURCE:TARGET" or "SOURCE:TARGET:rw" (read-only unless rw is given)'
    if isinstance(entry, Mapping):
        source = str(entry.get("source", ""))
        target = str(entry.get("target") or source)
        read_only = bool(entry.get("read_only", True))
        unknown = set(entry) - {"source", "target", "read_only"}
    elif isinstance(entry, str):
        parts = entry.split(":")
        mode = parts.pop() if parts[-1] in {"ro", "rw"} else "ro"
        if not 1 <= len(parts) <= 2:
            raise _bad("mounts", entry, allowed)
        source, target, read_only, unknown = parts[0], parts[-1], mode == "ro", set()
    else:
        raise _bad("mounts", entry, allowed)
    if unknown or not source.startswith("/") or not target.startswith("/"):
        raise _bad("mounts", entry, allowed)
    return MountRequest(source, target, read_only)


def environment(value: Mapping[str, object]) -> dict[str, str]:
    """Check the names of environment variables, and that values are texts without NUL."""
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise _bad("env", name, "names of letters, digits and underscores")
        if "\0" in str(text):
            raise _bad("env", name, "values without a NUL character")
    return {name: str(text) for name, text in value.items()}


def network(value: str) -> str:
    """Check a network: bridge, none, or the name of one of the engine's own; never the host's."""
    if value == "host" or not _NETWORK.fullmatch(value):
        allowed = '"bridge", "none", or the name of a Docker network (the host\'s own is never lent)'
        raise _bad("network", value, allowed)
    return value


def size(name: str, value: object, *, least: int) -> int | None:
    """Read a size in bytes as Docker writes it (512m, 8g); None or an empty text for no limit."""
    if value is None or value == "":
        return None
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise _bad(name, value, "a size such as 512m or 8g")
    number = int(float(match["number"]) * _UNITS[match["unit"].lower()])
    if number < least:
        raise _bad(name, value, f"at least {least // 2**20}m")
    return number


def cpus(value: object) -> float | None:
    """Read a number of processors, fractions allowed; None or 0 for no limit."""
    if value is None or value == "":
        return None
    try:
        number = float(str(value))
    except ValueError as error:
        raise _bad("cpus", value, "a number such as 1.5, or 0 for no limit") from error
    if number != number or number < 0 or 0 < number < 0.01:
        raise _bad("cpus", value, "at least 0.01, or 0 for no limit")
    return number or None


def user(value: str) -> tuple[int, int | None] | None:
    """Read "UID" or "UID:GID"; an empty text means: chosen by who runs the server."""
    if value == "":
        return None
    match = _USER.fullmatch(value)
    if match is None:
        raise _bad("user", value, "numbers: UID or UID:GID")
    return int(match["uid"]), int(match["gid"]) if match["gid"] else None


def user_labels(value: Mapping[str, object]) -> dict[str, str]:
    """Check further labels for the container; our own prefix is ours."""
    for name in value:
        if not name or name.startswith(PREFIX):
            raise _bad("labels", name, f"any name that does not begin with {PREFIX}")
    return {name: str(text) for name, text in value.items()}


def choice(name: str, value: object, choices: Any) -> Any:
    """Check a word against those of a Literal type."""
    words = get_args(choices)
    if value in words:
        return value
    raise _bad(name, value, ", ".join(f'"{word}"' for word in words[:-1]) + f' or "{words[-1]}"')


def seconds(name: str, value: object) -> float:
    """Check a time limit in seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise _bad(name, value, "a positive number of seconds")


def not_negative(name: str, value: object) -> float:
    """Check a time in seconds that may be 0, for none."""
    return 0.0 if value == 0 and not isinstance(value, bool) else seconds(name, value)


def at_least(name: str, value: object, least: int) -> int:
    """Check a whole number against its lower bound."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise _bad(name, value, f"a whole number, at least {least}")


def _bad(name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(
        f"The setting {name} has the value {value!r}, which can't be used. Allowed: {allowed}.",
        f"correct {name} in the kernel's kernel.json, in jupyter_config.py "
        f"(c.TfgpuProvisioner.{name}) or on the command line.",
    )
