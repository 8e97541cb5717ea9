"""A kernel on the host, with the Python and the TensorFlow of the image: made once, kept in ``.cache``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parents[1] / ".cache/bench/local"
_ASK: Final = """
import json, sys
from importlib.metadata import distributions
names = {"tensorflow", "tensorflow-cpu", "numpy", "keras", "ipykernel", "pyzmq", "tornado", "jupyter-client"}
found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
print(json.dumps({"python": sys.version.split()[0]} | {n: v for n, v in found.items() if n in names}))
"""


def inside(image: str) -> dict[str, str]:
    """Return the versions of Python and of what matters in an image."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", _ASK]
    return _asked(command)


def python(versions: dict[str, str]) -> str:
    """Return an interpreter of the host with the packages in these versions; make it where there is none."""
    interpreter = _FOLDER / "bin/python"
    if interpreter.is_file() and _asked([str(interpreter), "-c", _ASK]) == versions:
        return str(interpreter)
    print("making .cache/bench/local with the image's TensorFlow", file=sys.stderr, flush=True)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    subprocess.run([_base(versions["python"]), "-m", "venv", str(_FOLDER)], check=True)
    wanted = [f"{name}=={number}" for name, number in versions.items() if name != "python"]
    subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return str(interpreter)


def _base(wanted: str) -> str:
    """Return an interpreter of this version, else of the same minor version.

    :raises SystemExit: where the machine has none.
    """
    minor = ".".join(wanted.split(".")[:2])
    names = (f"/usr/bin/python{minor}", f"python{minor}", sys.executable)
    found = [path for path in map(shutil.which, names) if path]
    told = {path: _asked([path, "-c", _ASK])["python"] for path in found}
    for path, number in told.items():
        if number == wanted:
            return path
    for path, number in told.items():
        if number.startswith(f"{minor}."):
            return path
    raise SystemExit(f"the local kernel needs Python {minor}, as the image has it")


def _asked(command: list[str]) -> dict[str, str]:
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    versions: dict[str, str] = json.loads(told)
    return versions
