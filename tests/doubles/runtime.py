"""A double of nvidia-container-runtime: puts GPUs into a container, then hands over to runc.

A small shell script in front (:mod:`tests.doubles.toolkit` writes it) sends all calls but ``create`` straight to
runc; this program is run for ``create`` alone, with the machine's folder as its first argument and the standard
library alone. It edits the bundle's config.json by the rules of NVIDIA's toolkit:

- NVIDIA_VISIBLE_DEVICES absent, empty or ``void``: not a GPU container, nothing changes.
- ``none``: the driver's files, and no GPU. ``all``, or a list of indices and UUIDs: these GPUs.
- NVIDIA_DRIVER_CAPABILITIES: ``compute`` brings libcuda, ``utility`` NVML and nvidia-smi.
- NVIDIA_REQUIRE_CUDA: a driver that serves no CUDA so new refuses the container.

Device nodes bear NVIDIA's number (major 195) and get their rule in the device cgroup, though no driver stands
behind them. What goes wrong is told as NVIDIA tells it: in ``legacy`` mode by a failing prestart hook, which
the toolkit too leaves to runc, in ``cdi`` mode by the runtime itself, in the log that the daemon reads.
"""

from __future__ import annotations

import json
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

MAJOR = 195
UVM_MINOR, CONTROL_MINOR = 200, 255  # the real UVM has a major number of its own, given anew at each boot
CONTAINER_STATE = "/run/nvidia-double"


class Refused(Exception):
    """The container can't have what it asks for; the text is NVIDIA's."""

    def __init__(self, legacy: str, cdi: str = "") -> None:
        super().__init__(legacy)
        self.legacy = legacy
        self.cdi = cdi or legacy


class State:
    """The little of the machine's state that the toolkit asks for."""

    def __init__(self, text: str) -> None:
        self.values: dict[str, str] = {}
        self.gpus: list[dict[str, str]] = []
        self.mig: dict[str, dict[str, str]] = {}
        self.init_error = 0
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            fields = dict(part.split("=", 1) for part in rest.partition(" name=")[0].split() if "=" in part)
            if word == "gpu":
                self.gpus.append(fields)
            elif word == "mig":
                gpu, slot = rest.split()[:2]
                self.mig[fields["uuid"]] = {**fields, "gpu": gpu, "slot": slot}
            elif word == "error" and rest.split()[0] in {"nvmlInit_v2", "*"} and len(rest.split()) == 2:
                self.init_error = int(rest.split()[1])
            elif word not in {"error", "delay", "process"}:
                self.values[word] = rest


def wanted_devices(env: dict[str, str], state: State) -> list[str] | None:
    """Return the UUIDs that a container's environment asks for; None for no GPU container at all."""
    value = env.get("NVIDIA_VISIBLE_DEVICES", "")
    if value in {"", "void"}:
        return None
    if value == "none":
        return []
    if value == "all":
        return [gpu["uuid"] for gpu in state.gpus]
    names = {str(index): gpu["uuid"] for index, gpu in enumerate(state.gpus)}
    names |= {f"{mig['gpu']}:{mig['slot']}": uuid for uuid, mig in state.mig.items()}
    names |= {uuid: uuid for uuid in [*names.values(), *state.mig]}
    found = []
    for name in value.split(","):
        if name not in names:
            raise Refused(
                f"device error: {name}: unknown device", "failed to get device handle from UUID: Not Found"
            )
        found.append(names[name])
    return found


def check_driver(env: dict[str, str], state: State) -> None:
    """Refuse where the host's driver can't serve the container."""
    if state.values.get("refusal"):
        raise Refused(state.values["refusal"].replace("\\n", "\n"))
    if state.values.get("library") == "0":
        missing = "libnvidia-ml.so.1: cannot open shared object file: no such file or directory"
        raise Refused(
            f"initialization error: load library failed: {missing}",
            "failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND",
        )
    if state.init_error:
        texts = {9: "driver not loaded", 18: "driver/library version mismatch", 4: "insufficient permissions"}
        text = texts.get(state.init_error, "unknown error")
        raise Refused(
            f"initialization error: nvml error: {text}", f"failed to initialize NVML: {text.title()}"
        )
    require, disabled = env.get("NVIDIA_REQUIRE_CUDA", ""), env.get("NVIDIA_DISABLE_REQUIRE", "")
    newest = int(state.values["cuda"]) // 1000, int(state.values["cuda"]) % 1000 // 10
    asked = re.match(r"cuda>=(\d+)\.(\d+)", require)
    if asked and not disabled and newest < (int(asked[1]), int(asked[2])):
        raise Refused(
            f"requirement error: unsatisfied condition: {asked[0]}, please update your driver to a newer version, "
            "or use an earlier cuda container"
        )


def add_devices(spec: dict[str, Any], uuids: list[str], state: State) -> None:
    """Give the container the device nodes of these GPUs, and those that every GPU needs."""
    minors: dict[str, int] = {}
    for uuid in uuids:
        mig = state.mig.get(uuid)
        gpu = state.gpus[int(mig["gpu"])] if mig else next(gpu for gpu in state.gpus if gpu["uuid"] == uuid)
        minors[f"/dev/nvidia{gpu['minor']}"] = int(gpu["minor"])
        # A whole GPU that is cut brings all its parts.
        parts = [mig] if mig else [part for part in state.mig.values() if state.gpus[int(part["gpu"])] is gpu]
        minors |= {
            f"/dev/nvidia-caps/nvidia-cap{part['capability']}": int(part["capability"]) for part in parts
        }
    if minors:
        minors |= {"/dev/nvidiactl": CONTROL_MINOR, "/dev/nvidia-uvm": UVM_MINOR}
    linux = spec.setdefault("linux", {})
    rules = linux.setdefault("resources", {}).setdefault("devices", [])
    for path, minor in minors.items():
        node = {
            "path": path,
            "type": "c",
            "major": MAJOR,
            "minor": minor,
            "fileMode": 0o666,
            "uid": 0,
            "gid": 0,
        }
        linux.setdefault("devices", []).append(node)
        rules.append({"allow": True, "type": "c", "major": MAJOR, "minor": minor, "access": "rw"})


def add_files(spec: dict[str, Any], bundle: Path, machine: Path, capabilities: set[str]) -> None:
    """Mount the driver's files where the container's loader looks; no ldconfig is needed there."""
    rootfs = bundle / spec["root"]["path"]
    multiarch = (machine / "multiarch").read_text().strip()
    libraries = f"/usr/lib/{multiarch}" if (rootfs / f"usr/lib/{multiarch}").is_dir() else "/usr/lib64"
    files = {CONTAINER_STATE: machine / "driver"}
    if "utility" in capabilities:
        files[f"{libraries}/libnvidia-ml.so.1"] = machine / "lib/libnvidia-ml.so.1"
        files["/usr/bin/nvidia-smi"] = machine / "lib/nvidia-smi"
    if "compute" in capabilities:
        files[f"{libraries}/libcuda.so.1"] = machine / "lib/libcuda.so.1"
    options = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
    spec["mounts"] += [
        {"destination": target, "type": "bind", "source": str(source.resolve()), "options": options}
        for target, source in files.items()
    ]


def inject(machine: Path, bundle: Path, container: str) -> None:
    """Edit the bundle of a container that is about to be created, and note what it was granted.

    :raises Refused: in ``cdi`` mode; in ``legacy`` mode the bundle gets a hook that fails.
    """
    config = bundle / "config.json"
    spec = json.loads(config.read_text())
    env = dict(entry.split("=", 1) for entry in spec["process"].get("env", []) if "=" in entry)
    state = State((machine / "driver/state").read_text())
    if env.get("NVIDIA_VISIBLE_DEVICES", "") in {"", "void"}:
        note(machine, container, env, [])
        return
    try:
        check_driver(env, state)
        uuids = wanted_devices(env, state) or []
    except Refused as refused:
        if state.values["mode"] == "cdi":
            raise
        text = f"Auto-detected mode as 'legacy'\nnvidia-container-cli: {refused.legacy}"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", 'printf "%s\\n" "$1" >&2; exit 1', "sh", text]}
        spec.setdefault("hooks", {}).setdefault("prestart", []).append(hook)
    else:
        asked = env.get("NVIDIA_DRIVER_CAPABILITIES") or "compute,utility"
        capabilities = (
            {"compute", "utility"} if asked == "all" else {name.strip() for name in asked.split(",")}
        )
        add_devices(spec, uuids, state)
        add_files(spec, bundle, machine, capabilities)
        if state.values["mode"] == "cdi":
            kept = [
                entry for entry in spec["process"]["env"] if not entry.startswith("NVIDIA_VISIBLE_DEVICES=")
            ]
            spec["process"]["env"] = [*kept, "NVIDIA_VISIBLE_DEVICES=void"]
        note(machine, container, env, uuids)
    config.write_text(json.dumps(spec))


def note(machine: Path, container: str, env: dict[str, str], uuids: list[str]) -> None:
    """Append to the log of grants, one JSON line a container."""
    line = json.dumps({"container": container, "asked": env.get("NVIDIA_VISIBLE_DEVICES"), "granted": uuids})
    with (machine / "grants.jsonl").open("a") as log:
        log.write(line + "\n")


def main(arguments: list[str]) -> None:
    """Run as ``runtime.py MACHINE RUNC-ARGUMENTS…``, the last of which is the container's id."""
    machine, rest = Path(arguments[0]), arguments[1:]
    named = dict(pairwise(rest))
    try:
        inject(machine, Path(named["--bundle"]), rest[-1])
    except Refused as refused:
        text = (
            "failed to create NVIDIA Container Runtime: failed to construct OCI spec modifier: failed to create the "
            'automatic CDI modifier: failed to generate CDI spec for mode "auto": failed to construct device spec '
            f"generators: {refused.cdi}"
        )
        with open(named.get("--log", os.devnull), "a") as log:
            log.write(json.dumps({"level": "error", "msg": text, "time": "2026-01-01T00:00:00Z"}) + "\n")
        sys.exit(1)
    os.execvp("runc", ["runc", *rest])  # noqa: S606 - becoming runc, with no shell between, is the point


if __name__ == "__main__":
    main(sys.argv[1:])
