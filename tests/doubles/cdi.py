"""The CDI specification that ``nvidia-ctk cdi generate`` would write for the doubled machine.

An engine that knows CDI (Docker 25 and up, podman) reads it from /etc/cdi, /var/run/cdi or where it was told
to, and grants ``nvidia.com/gpu=NAME`` without any runtime. Names are indices, UUIDs, ``GPU:SLOT`` for MIG devices,
and ``all``. A hook of the specification notes in the machine's log of grants what each container got.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .build import MULTIARCH
from .runtime import CONTAINER_STATE, CONTROL_MINOR, MAJOR, UVM_MINOR, State
from .toolkit import Toolkit

KIND: Final = "nvidia.com/gpu"
_HOOK: Final = """\
#!/bin/sh
# nvidia-cdi-hook MACHINE UUIDS: notes what a container was granted; the engine gives its id on standard input.
container=$(sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
printf '{"container": "%s", "asked": "cdi", "granted": [%s]}\\n' "$container" "$2" >>"$1/grants.jsonl"
"""


def write(toolkit: Toolkit, folder: Path) -> Path:
    """Write the specification of the machine as it is now into an engine's CDI folder; return its path."""
    hook = toolkit.folder / "bin/nvidia-cdi-hook"
    hook.write_text(_HOOK)
    hook.chmod(0o755)
    path = folder / "nvidia.json"
    path.write_text(json.dumps(specification(toolkit.folder, toolkit.folder / "driver/state"), indent=1))
    return path


def specification(machine: Path, state_file: Path) -> dict[str, Any]:
    """Return the specification as CDI 0.5 has it."""
    state = State(state_file.read_text())
    devices: list[dict[str, Any]] = []
    every: list[tuple[str, dict[str, int]]] = []
    for index, gpu in enumerate(state.gpus):
        whole = {f"/dev/nvidia{gpu['minor']}": int(gpu["minor"])}
        parts = {uuid: mig for uuid, mig in state.mig.items() if mig["gpu"] == str(index)}
        # As NVIDIA's toolkit has it, a GPU that is cut is granted in its parts alone.
        grants = {gpu["uuid"]: (str(index), whole)} if not parts else {}
        for uuid, mig in parts.items():
            capability = {f"/dev/nvidia-caps/nvidia-cap{mig['capability']}": int(mig["capability"])}
            grants[uuid] = (f"{index}:{mig['slot']}", whole | capability)
        for uuid, (name, nodes) in grants.items():
            devices += [_device(machine, known, [uuid], nodes) for known in (name, uuid)]
            every.append((uuid, nodes))
    if every:
        together = {path: minor for _, nodes in every for path, minor in nodes.items()}
        devices.append(_device(machine, "all", [uuid for uuid, _ in every], together))
    return {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": devices,
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": _nodes({"/dev/nvidiactl": CONTROL_MINOR, "/dev/nvidia-uvm": UVM_MINOR}),
            "mounts": [
                _mount(machine / "driver", CONTAINER_STATE),
                _mount(machine / "lib/nvidia-smi", "/usr/bin/nvidia-smi"),
                *(
                    _mount(machine / "lib" / name, f"/usr/lib/{MULTIARCH}/{name}")
                    for name in ("libnvidia-ml.so.1", "libcuda.so.1")
                ),
            ],
        },
    }


def _device(machine: Path, name: str, uuids: list[str], nodes: dict[str, int]) -> dict[str, Any]:
    hook = str(machine / "bin/nvidia-cdi-hook")
    quoted = ", ".join(f'"{uuid}"' for uuid in uuids)
    note = {"hookName": "createRuntime", "path": hook, "args": ["nvidia-cdi-hook", str(machine), quoted]}
    return {"name": name, "containerEdits": {"deviceNodes": _nodes(nodes), "hooks": [note]}}


def _nodes(minors: dict[str, int]) -> list[dict[str, Any]]:
    return [{"path": path, "type": "c", "major": MAJOR, "minor": minor} for path, minor in minors.items()]


def _mount(source: Path, target: str) -> dict[str, Any]:
    options = ["ro", "nosuid", "nodev", "bind"]
    return {"hostPath": str(source.resolve()), "containerPath": target, "options": options}
