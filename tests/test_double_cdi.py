"""The CDI specification of the doubled machine names the right devices."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.doubles import cdi
from tests.doubles.state import State, machine, partitioned
from tests.doubles.toolkit import Toolkit


def devices(tmp_path: Path, state: State) -> dict[str, dict[str, Any]]:
    """Write the specification of a machine and return the edits of each device by name."""
    written = json.loads(cdi.write(Toolkit.install(tmp_path, state), tmp_path).read_text())
    return {device["name"]: device["containerEdits"] for device in written["devices"]}


def nodes(edits: dict[str, Any]) -> list[str]:
    """Return the device nodes that a grant brings."""
    return [node["path"] for node in edits["deviceNodes"]]


def test_gpus_go_by_index_uuid_and_all(tmp_path: Path) -> None:
    """Index and UUID mean the same node, and ``all`` every one."""
    first, second = (gpu.uuid for gpu in machine(2).gpus)
    found = devices(tmp_path, machine(2))
    assert set(found) == {"0", "1", first, second, "all"}
    assert nodes(found["1"]) == nodes(found[second]) == ["/dev/nvidia1"]
    assert nodes(found["all"]) == ["/dev/nvidia0", "/dev/nvidia1"]


def test_a_cut_gpu_is_granted_in_parts(tmp_path: Path) -> None:
    """A GPU under MIG has no name of its own; its parts bring its node and their own capability."""
    state = partitioned()
    part = state.gpus[0].mig[1].uuid
    found = devices(tmp_path, state)
    assert state.gpus[0].uuid not in found
    assert nodes(found["0:1"]) == nodes(found[part]) == ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap101"]


def test_a_grant_is_noted(tmp_path: Path) -> None:
    """The hook of a device, run as an engine runs it, writes the container and its GPUs to the log of grants."""
    toolkit = Toolkit.install(tmp_path, machine(2))
    written = json.loads(cdi.write(toolkit, tmp_path).read_text())
    (hook,) = next(entry for entry in written["devices"] if entry["name"] == "all")["containerEdits"]["hooks"]
    status = b'{"ociVersion":"1.0.2","id":"abc123","status":"creating","bundle":"/b"}'
    subprocess.run([hook["path"], *hook["args"][1:]], input=status, check=True)
    assert toolkit.granted("abc123") == [gpu.uuid for gpu in machine(2).gpus]
