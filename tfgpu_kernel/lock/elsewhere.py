"""A lock as files that other tools read, so that nobody needs this package to run the notebook again: pure."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any, Final

from .record import Lock

_STARTUP: Final = "/root/.ipython/profile_default/startup/00-seeds.py"
_SEEDS: Final = """\
\"\"\"Made from the lock of a notebook: IPython runs it when it starts, and its random numbers are seeded.\"\"\"


def _seed_at_the_first_cell(shell, source, seed, op_determinism):
    def begin():
        shell.events.unregister("pre_execute", begin)
        names = {{"__name__": "seeds"}}
        exec(source, names)
        names["begin"](seed, op_determinism)

    shell.events.register("pre_execute", begin)


_seed_at_the_first_cell(get_ipython(), r'''
{source}
''', {seed}, {op_determinism})
del _seed_at_the_first_cell
"""


def requirements(lock: Lock) -> str:
    """Return a requirements file in pip's hash-checking mode."""
    return "\n".join([*(package.line for package in lock.packages.added), ""])


def seeds(lock: Lock) -> str:
    """Return a startup file for IPython that seeds the notebook as a rerun here does."""
    source = (importlib.resources.files("tfgpu_kernel.boot") / "repeatable.py").read_text()
    return _SEEDS.format(source=source, **vars(lock.repeatable))


def dockerfile(lock: Lock, notebook: str, loaded: str = "") -> str:
    """Return a Dockerfile whose container runs the notebook; IPython runs notebooks by itself.

    :param loaded: the image with all packages, as an archive beside the file has it; empty where it is pulled.
    """
    lines = [
        "# Made from the lock of a notebook: the same image, packages and seeds. Build and run it in this folder:",
        *(["#   docker load -i image.tar"] if loaded else []),
        "#   docker build -t notebook . && docker run --rm "
        + ("--gpus all " if lock.gpu.need == "required" else "")
        + "notebook",
        f"FROM {loaded or lock.image.pinned}",
        "USER root",
    ]
    if lock.packages.system and not loaded:
        lines.append(
            "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
            f"{' '.join(lock.packages.system)} && rm -rf /var/lib/apt/lists/*"
        )
    if lock.packages.added and not loaded:
        lines += [
            "COPY requirements.txt /tmp/requirements.txt",
            "RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt "
            "|| PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-deps --require-hashes "
            "-r /tmp/requirements.txt",
        ]
    lines += [f'ENV {name}="{value}"' for name, value in sorted(variables(lock).items())]
    if any(file.place == "notebook" for file in lock.data) or notebook:
        lines += ["WORKDIR /notebook", "COPY notebook/ /notebook/"]
    if any(file.place == "keras-datasets" for file in lock.data):
        lines.append("COPY keras-datasets/ /root/.keras/datasets/")
    lines.append(f"COPY seeds.py {_STARTUP}")
    lines += [f"CMD {json.dumps(['python3', '-m', 'IPython', notebook])}", ""]
    return "\n".join(lines)


def devcontainer(lock: Lock) -> str:
    """Return a devcontainer.json that builds the Dockerfile beside its folder."""
    gpu: Any = True if lock.gpu.need == "required" else "optional"
    if lock.gpu.need == "required" and lock.gpu.memory_bytes:
        gpu = {"memory": f"{lock.gpu.memory_bytes // 10**9}gb"}
    made: dict[str, Any] = {
        "name": "Locked notebook",
        "build": {"dockerfile": "../Dockerfile", "context": ".."},
        "hostRequirements": {"gpu": gpu},
        "containerEnv": variables(lock),
        "customizations": {"vscode": {"extensions": ["ms-python.python", "ms-toolsai.jupyter"]}},
    }
    if lock.gpu.need == "required":
        made["runArgs"] = ["--gpus", "all"]
    return json.dumps(made, indent=2) + "\n"


def variables(lock: Lock) -> dict[str, str]:
    """Return the environment that makes runs repeat themselves."""
    found = {name: value for name, value in lock.environment.items() if value is not None}
    found["PYTHONHASHSEED"] = str(lock.repeatable.seed)
    if lock.repeatable.op_determinism and lock.software.tensorflow.startswith(
        ("2.1.", "2.2.", "2.3.", "2.4.", "2.5.", "2.6.", "2.7.")
    ):
        found["TF_DETERMINISTIC_OPS"] = "1"  # later ones would forbid random numbers without a seed
    return found
