"""Compile the NVIDIA doubles, once for each state of their sources, with the system's C compiler."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
CACHE: Final = SOURCES.parents[1] / ".cache" / "doubles"
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")
MULTIARCH: Final = str(sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu")
"""Where Debian and Ubuntu images keep libraries: /usr/lib/<this>; the loader looks there with no ldconfig."""


def build(leave_out: Collection[str] = ()) -> Path:
    """Return a folder with libnvidia-ml.so.1, libcuda.so.1 and nvidia-smi.

    :param leave_out: NVML functions that the library shall lack, as an old driver's does.
    """
    header = _header()
    names = ("state.h", "state.c", "nvml.c", "cuda.c", "nvidia_smi.c")
    parts = [*((SOURCES / name).read_bytes() for name in names), header.read_bytes(), *map(str.encode, FLAGS)]
    parts += [name.encode() for name in sorted(leave_out)]
    folder = CACHE / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    if folder.is_dir():
        return folder
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    hidden = scratch / "symbols"
    local = f"local: {' '.join(name + ';' for name in sorted(leave_out))}" if leave_out else ""
    hidden.write_text(f"{{ global: nvml*; {local} }};\n")
    shared = [*FLAGS, "-fPIC", "-shared", f"-I{header.parent}"]
    _compile([*shared, "nvml.c", "state.c", f"-Wl,--version-script={hidden}"], scratch / "libnvidia-ml.so.1")
    _compile([*shared, "cuda.c", "state.c"], scratch / "libcuda.so.1")
    _compile([*FLAGS, "-D_GNU_SOURCE", f"-I{header.parent}", "nvidia_smi.c", "-ldl"], scratch / "nvidia-smi")
    try:
        scratch.rename(folder)
    except OSError:  # another process was faster; its result is the same
        if not folder.is_dir():
            raise
    return folder


def _compile(arguments: list[str], out: Path) -> None:
    soname = [f"-Wl,-soname,{out.name}"] if "-shared" in arguments else []
    subprocess.run(["cc", *arguments, *soname, "-o", str(out)], cwd=SOURCES, check=True)


def _header() -> Path:
    """Find nvml.h, which the package nvidia-nvml-dev-cu12 of the test extra brings."""
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        for header in Path(root).glob("nvml*/include/nvml.h"):
            return header
    raise RuntimeError("nvml.h is missing: pip install nvidia-nvml-dev-cu12")
