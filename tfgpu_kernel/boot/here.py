"""Where cells install: a folder of this notebook and image, which comes after the image's packages.

The kernel calls :func:`begin` once. Each Python that it starts runs :func:`follow` first, as ``sitecustomize`` of the
archive that this is in; a Python of another environment (a venv that the user made) is left alone.
"""

import os
import site
import sys
from typing import List, Sequence

FOLDER = "/tfgpu/packages"
PROGRAMS = "/tfgpu/bin"
CONSTRAINTS = "/tfgpu/site/constraints.txt"
PREFIX = "TFGPU_PREFIX"  # of the kernel's own Python
PYTHON = "TFGPU_PYTHON"


def begin() -> None:
    """Let this process and its children find what the notebook's cells have installed."""
    if not os.path.isdir(FOLDER):
        return
    os.environ[PREFIX] = sys.prefix
    os.environ[PYTHON] = sys.executable
    archive = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _join("PYTHONPATH", archive, os.environ.get("PYTHONPATH", ""))
    _join("PATH", PROGRAMS, os.environ.get("PATH", os.defpath), FOLDER + "/bin", FOLDER + "/local/bin")
    for folder in folders():
        # Looked for once and not found, a folder would not be looked for again.
        os.makedirs(folder, exist_ok=True)
    _extend()


def follow_up() -> None:
    """Find what appeared in the folder since :func:`begin`: a kernel that waited is given a notebook's."""
    if os.path.isdir(FOLDER):
        _extend()


def follow() -> None:
    """Do in a child of the kernel what makes pip install for the notebook, and Python find it."""
    if os.environ.get(PREFIX) != sys.prefix:
        os.environ.pop("PIP_PREFIX", None)
        os.environ.pop("PIP_CONSTRAINT", None)
        return
    _extend()
    if "PIP_BUILD_TRACKER" in os.environ or "PIP_REQ_TRACKER" in os.environ:
        # pip itself started this one, to build a package with whatever that wants.
        os.environ.pop("PIP_CONSTRAINT", None)
        return
    place = elsewhere(_command_line())
    if place:
        os.environ.pop("PIP_PREFIX", None)  # pip refuses two places
    else:
        os.environ["PIP_PREFIX"] = FOLDER
    if place == "--target":
        # Nothing there comes together with the image's packages.
        os.environ.pop("PIP_CONSTRAINT", None)
    else:
        os.environ.setdefault("PIP_CONSTRAINT", CONSTRAINTS)
    os.environ["PIP_BREAK_SYSTEM_PACKAGES"] = "1"
    os.environ["PIP_NO_WARN_SCRIPT_LOCATION"] = "1"


def elsewhere(words: Sequence[str]) -> str:
    """Return the option by which pip's arguments name a place of their own, or nothing."""
    for word in words:
        name = word.partition("=")[0]
        if name in ("--target", "--root", "--prefix", "--user"):
            return name
        if word.startswith("-t"):
            return "--target"
    return ""


def _command_line() -> List[str]:
    # Before Python 3.8 there is no sys.argv yet.
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")]
    except OSError:
        return []


def folders() -> List[str]:
    """Return where an installation below the folder may put packages: each distribution has its own ways."""
    version = "python%d.%d" % sys.version_info[:2]
    names = ["lib/%s/site-packages" % version, "lib64/%s/site-packages" % version]
    if os.path.isdir("/usr/lib/python3/dist-packages"):
        names += ["local/lib/%s/dist-packages" % version, "lib/python3/dist-packages"]
    return [os.path.join(FOLDER, name) for name in names]


def _extend() -> None:
    for folder in folders():
        if os.path.isdir(folder):
            site.addsitedir(folder)


def _join(name: str, *parts: str) -> None:
    os.environ[name] = os.pathsep.join(part for part in parts if part)
