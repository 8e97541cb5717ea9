"""What cells install: one folder for each notebook and image, on the host, which the notebook's kernels have mounted.

    <root>/<image>/<notebook>   what a notebook's cells have installed in that image; both names are hashes
    <root>/unclaimed/<run>      the same for a kernel that belongs to no notebook (yet); goes with its run folder

Each container sees its own folder and no other, so no notebook can reach into another's. A kernel that is started
before its notebook is known gets an unclaimed folder; :func:`claim` makes that the notebook's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path

CONTAINER_FOLDER: Final = "/tfgpu/packages"
_UNCLAIMED: Final = "unclaimed"


def root(uid: int) -> Path:
    """Return the folder that holds a user's; no container has it mounted."""
    base = Path(user_cache_path("tfgpu-packages"))
    return base if uid == os.geteuid() else base / f"uid-{uid}"


def folder(image: str, notebook: str, run: str, uid: int) -> Path:
    """Return the folder of a kernel's additions.

    :param image: the identity of the image that runs, see :func:`tfgpu_kernel.image.facts.identity`.
    :param notebook: the notebook's path on the host, or empty where there is none.
    :param run: the name of the kernel's run folder.
    :param uid: as whom the kernel runs, on the host.
    """
    if not notebook:
        return root(uid) / _UNCLAIMED / run
    return root(uid) / image[:24] / hashlib.sha256(notebook.encode()).hexdigest()[:24]


def prepare(place: Path, uid: int, gid: int) -> None:
    """Make the folder, for the kernel's user alone. What is above it is the server's."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(place, uid, gid)


def claim(image: str, notebook: str, run: str, uid: int, gid: int) -> None:
    """Make a running kernel's unclaimed folder the notebook's, with all that the notebook has installed before.

    A mount follows its folder when that is renamed, so the container notices nothing but what appears in it.
    """
    fresh, own = folder(image, "", run, uid), folder(image, notebook, run, uid)
    if not notebook or not fresh.is_dir():
        return
    own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if own.is_dir():
        _copy(own, fresh, uid, gid)
        before = fresh.with_name(f"{run}.before")
        own.rename(before)
        fresh.rename(own)
        shutil.rmtree(before, ignore_errors=True)
    else:
        fresh.rename(own)


def forget(run: str) -> None:
    """Remove what a kernel without a notebook has installed."""
    for base in (root(os.geteuid()), *root(os.geteuid()).glob("uid-*")):
        shutil.rmtree(base / _UNCLAIMED / run, ignore_errors=True)


def _copy(source: Path, target: Path, uid: int, gid: int) -> None:
    """Copy a folder's contents as the user whose they are: a server that is root follows none of their links."""
    other = {"user": uid, "group": gid, "extra_groups": []} if uid != os.geteuid() else {}
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        subprocess.run(
            ["cp", "--archive", ".", f"/proc/self/fd/{descriptor}/"],
            cwd=source, pass_fds=(descriptor,), check=True, capture_output=True, **other,
        )  # type: ignore[call-overload] # fmt: skip
    finally:
        os.close(descriptor)
