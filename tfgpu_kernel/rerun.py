"""Run a notebook from top to bottom in a clean kernel that is made repeatable, and learn what it ran on."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nbclient.exceptions import CellExecutionError

from . import launches
from .errors import ConfigError
from .launch import Kernel
from .launches import Launch
from .lock.record import Repeatable
from .lock.start import LOCK_OF
from .overlay import OverlaidSpecs
from .progress import Report
from .provisioner import TfgpuProvisioner
from .runner import Runner
from .stopped import stopped

CellBegins = Callable[[int, int], None]
"""Takes the number of the code cell that begins, and how many there are."""

_MARK: Final = "tfgpu-rerun:"
_BEGIN: Final = """
import sys
sys.modules["tfgpu_boot.repeatable"].begin({seed}, {op_determinism})
sys.modules["tfgpu_boot.seen"].begin()
del sys
"""
"""Runs right before the first cell: what a kernel draws while it starts depends on the moment."""
_PROBE: Final = f"""
def _tfgpu_probe():
    import json, os, platform, sys
    found = {{"python": platform.python_version(), "environment": dict(os.environ)}}
    try:
        found["threads"] = len(os.sched_getaffinity(0))
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        found["cpu"] = names[0] if names else platform.machine()
    except OSError:
        pass
    seen = sys.modules.get("tfgpu_boot.seen")
    found["files"] = seen.files() if seen else []
    tf = sys.modules.get("tensorflow")
    try:
        import subprocess
        asked = subprocess.check_output(["dpkg-query", "-W", "-f", "${{Package}}=${{Version}}\\n"])
        found["system"] = asked.decode().splitlines()
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        built = tf.sysconfig.get_build_info() if tf else {{}}
        found["cuda"], found["cudnn"] = str(built.get("cuda_version", "")), str(built.get("cudnn_version", ""))
    except AttributeError:
        pass
    print("{_MARK}" + json.dumps(found))
_tfgpu_probe()
"""
"""Runs after the last cell, unseen; only names on a list go on from here (:mod:`tfgpu_kernel.locking`)."""


@dataclass(frozen=True)
class Inside:
    """What the kernel said of itself at the end."""

    python: str = ""
    cpu: str = ""
    threads: int | None = None
    cuda: str = ""
    cudnn: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    """All packages of the distribution, as ``name=version``."""


@dataclass(frozen=True)
class Rerun:
    """A notebook after its run. ``failed`` is the index of the cell that ended it, None where none did."""

    notebook: Any
    kernel: Kernel
    inside: Inside
    system_packages: tuple[str, ...]
    """What the kernel's settings name of the image's distribution."""
    seconds: float
    """From the first cell to the last."""
    failed: int | None = None
    error: str = ""


async def rerun(
    notebook: Any,
    path: Path,
    *,
    kernel_name: str,
    settings: Mapping[str, Any],
    repeatable: Repeatable,
    timeout: int | None,
    report: Report,
    begins: CellBegins,
    started: Callable[[Kernel], None] | None = None,
    follows_lock: bool = True,
) -> Rerun:
    """Run a copy of the notebook; the given one and its file stay as they are.

    :param path: where the notebook is: its folder is the working directory, and its lock is followed.
    :param started: is told of the kernel before the first cell.
    :raises TfgpuError: where no kernel could be had.
    :raises RunStopped: where the kernel ended in the middle, or a cell took too long.
    """
    fresh = cleared(notebook)
    specs = OverlaidSpecs()
    # In a kernel of its own from the first import on: what is seeded when it is loaded must be loaded then.
    specs.settings = {**settings, "pool_size": 0, "env": {**settings.get("env", {}), **variables(repeatable)}}
    client = Runner(
        fresh,
        kernel_name=kernel_name,
        timeout=timeout,
        allow_errors=False,
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    manager = client.create_kernel_manager()
    manager.kernel_spec_manager = specs

    def launched(launch: Launch) -> None:
        if launch.step is not None:
            report(launch.step)

    stop = launches.listen(launched)
    try:
        # Not as the notebook's own kernel: what its cells have installed is neither locked nor verified.
        named = {LOCK_OF: str(path.resolve())} if follows_lock else {}
        async with client.async_setup_kernel(env={**os.environ, **named}):
            return await _run(client, manager, repeatable, begins, started)
    except BaseException:
        if client.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        stop()


async def _run(
    client: Runner,
    manager: Any,
    repeatable: Repeatable,
    begins: CellBegins,
    started: Callable[[Kernel], None] | None,
) -> Rerun:
    provisioner = manager.provisioner
    kernel = provisioner.kernel if isinstance(provisioner, TfgpuProvisioner) else None
    if kernel is None:
        raise ConfigError(
            f"The kernel {client.kernel_name} doesn't run in a container, so there is nothing to lock.",
            "name one that does, such as --kernel tfgpu.",
        )
    if started is not None:
        started(kernel)
    seeding = _BEGIN.format(seed=repeatable.seed, op_determinism=repeatable.op_determinism)
    talking: Any = client.kc
    await talking.execute_interactive(seeding, silent=True, store_history=False, timeout=60)
    began = time.monotonic()
    failed, text = None, ""
    code = [index for index, cell in enumerate(client.nb.cells) if cell.cell_type == "code"]
    for number, index in enumerate(code):
        begins(number, len(code))
        try:
            await client.async_execute_cell(client.nb.cells[index], index, execution_count=number + 1)
        except CellExecutionError as error:
            failed, text = number, f"{error.ename}: {error.evalue}"
            break
        except (RuntimeError, TimeoutError) as error:
            raise stopped(error, number + 1, client.timeout, provisioner.death) from error
    seconds = time.monotonic() - began
    inside = await _ask(client.kc) if failed is None else Inside()
    system_packages = provisioner.settings().system_packages
    return Rerun(client.nb, kernel, inside, system_packages, seconds, failed, text)


async def _ask(client: Any) -> Inside:
    """Have the kernel say what it is, without a trace in the notebook."""
    printed: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        printed.append(str(message["content"].get("text", "")))

    await client.execute_interactive(_PROBE, store_history=False, output_hook=hear, timeout=60)
    line = next((one for one in "".join(printed).splitlines() if one.startswith(_MARK)), "")
    try:
        raw: dict[str, Any] = json.loads(line.removeprefix(_MARK))
        return Inside(
            python=str(raw.get("python", "")),
            cpu=str(raw.get("cpu", "")),
            threads=raw.get("threads") if isinstance(raw.get("threads"), int) else None,
            cuda=str(raw.get("cuda", "")),
            cudnn=str(raw.get("cudnn", "")),
            environment={str(name): str(value) for name, value in raw.get("environment", {}).items()},
            files=tuple(str(file) for file in raw.get("files", ())),
            system=tuple(str(one) for one in raw.get("system", ())),
        )
    except (ValueError, AttributeError, TypeError):
        return Inside()  # a notebook may have broken what the probe is made of


def cleared(notebook: Any) -> Any:
    """Return a copy without outputs and execution counts."""
    fresh = copy.deepcopy(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    return fresh


def variables(repeatable: Repeatable) -> dict[str, str]:
    """Return the environment in which a run repeats itself; the rest is done by boot/repeatable.py."""
    found = {"PYTHONHASHSEED": str(repeatable.seed)}
    if repeatable.op_determinism:
        # Before TensorFlow 2.8 the variables alone do it.
        found |= {"TF_DETERMINISTIC_OPS": "1", "TF_CUDNN_DETERMINISTIC": "1"}
    return found
