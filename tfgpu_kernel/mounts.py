"""Which of the host's folders a kernel gets, and which it must not get.

Paths are judged after ``realpath``: Docker follows a symlink that is used as a bind source, so judging the
text that was asked for would judge the wrong folder. What is judged is also what is mounted: the kernel's container
ends before any cell could run, should Docker have found something else at the path (boot/mounted.py).
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .config import MountRequest
from .connection import CONTAINER_FOLDER
from .errors import MountRefused

CONTAINER_HOME: Final = "/tfgpu/home"
"""HOME of every kernel: private, gone with the container, outside every workspace."""
CONTAINER_CACHE: Final = "/tfgpu/cache"
"""Where the caches that outlive a kernel are."""

# Exactly these would hide the image's system, or lend the host's, whatever is below them.
_SYSTEM: Final = (
    "/", "/bin", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/srv", "/tmp",
    "/usr", "/var", "/var/lib",
)  # fmt: skip
# These and all below them are the machine's own (filesystem hierarchy standard 3.0; Docker's data root).
_MACHINE: Final = (
    "/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/run", "/var/lib/docker",
    "/var/lib/containerd", "/tfgpu",
)  # fmt: skip
# Removable disks are mounted below /run by desktops.
_REMOVABLE: Final = "/run/media"


@dataclass(frozen=True)
class Bind:
    """A folder or file of the host at a place in the container."""

    source: str
    target: str
    read_only: bool
    identity: tuple[int, int] | None = None
    """Device and inode of what was judged: Docker resolves the path once more, and boot/mounted.py compares. None where
    it is this package's own, at a place that no kernel can write to."""


@dataclass(frozen=True)
class Cover:
    """Something inside a mounted folder that the kernel must not see; an empty mount hides it."""

    target: str
    is_folder: bool


@dataclass(frozen=True)
class Mounts:
    """All that a kernel's container has mounted, in the order of mounting."""

    binds: tuple[Bind, ...]
    covers: tuple[Cover, ...]

    def expected(self) -> bytes:
        """Return what the container is to find where, for boot/mounted.py: JSON of target → device and inode."""
        return json.dumps({bind.target: bind.identity for bind in self.binds if bind.identity}).encode()

    def inside(self, path: str) -> str | None:
        """Where the container has a path of the host; None where it hasn't."""
        real = os.path.realpath(path)
        return next((_moved(real, b.source, b.target) for b in self.binds if _within(real, b.source)), None)

    def outside(self, path: str) -> str | None:
        """Where the host has a path of the container, its symlinks resolved; None where it hasn't."""
        normal = os.path.normpath(path)
        for bind in sorted(self.binds, key=lambda bind: len(bind.target), reverse=True):
            if _within(normal, bind.target):
                real = os.path.realpath(_moved(normal, bind.target, bind.source))
                return real if _within(real, bind.source) else None
        return None


def plan(
    *,
    workspace: str,
    cwd: str,
    run_io: Path,
    cache: Path,
    further: Sequence[MountRequest],
    roots: Sequence[str],
    homes: Iterable[str],
    sockets: Sequence[str],
) -> Mounts:
    """Judge what was asked for, and return what is mounted.

    :param workspace: the folder that is mounted at its own path, read-write.
    :param cwd: the kernel's working directory; must lie in the workspace or in a further mount.
    :param roots: folders that ``further`` mounts must lie in.
    :param homes: home folders; dot-entries of those at or below a mounted folder are covered.
    :param sockets: paths of engine sockets; no mount may hold one uncovered.
    :raises MountRefused: with what was asked for and why it is refused.
    """
    base, identity = _judged(workspace, sockets, what="workspace")
    # The path as the server knows it, symlinks and all, so that tracebacks and links just work.
    binds = [Bind(base, _target(workspace), read_only=False, identity=identity)]
    for request in further:
        source, identity = _judged(request.source, sockets, what="mount")
        if not any(_within(source, os.path.realpath(root)) for root in roots):
            raise MountRefused(
                f"The mount {request.source!r} is refused: {source} lies in none of the folders that "
                f"may be mounted ({', '.join(roots) or 'none are allowed'}).",
                "ask your administrator to add its parent to c.TfgpuProvisioner.mount_roots, or move "
                "the data into the workspace.",
            )
        binds.append(Bind(source, _target(request.target), request.read_only, identity))
    if not any(_within(os.path.realpath(cwd), bind.source) for bind in binds):
        raise MountRefused(
            f"The kernel's working directory {cwd} does not lie in the workspace {base}.",
            "start Jupyter in a folder above the notebook, or set workspace to one.",
        )
    covers = tuple(_covers(binds, homes))
    ours = (
        Bind(str(run_io), CONTAINER_FOLDER, read_only=False),
        Bind(str(cache), CONTAINER_CACHE, read_only=False),
    )
    return Mounts((*binds, *ours), covers)


def _judged(path: str, sockets: Sequence[str], *, what: str) -> tuple[str, tuple[int, int]]:
    """Return the real path of a folder or file that may be mounted, with its device and inode."""
    if "\0" in path or not path.startswith("/"):
        raise MountRefused(f"The {what} {path!r} is not an absolute path.", f"name the {what} from / on.")
    missing = None
    try:
        real, status = _opened(path)
    except OSError as error:
        real, missing = os.path.realpath(path), error
    named = repr(path) if real == path else f"{path!r} (which is {real})"
    if real in _SYSTEM or (
        any(_within(real, folder) for folder in _MACHINE) and not _below(real, _REMOVABLE)
    ):
        raise MountRefused(
            f"The {what} {named} is refused: it is a part of the machine's own system.",
            "start Jupyter in a folder of your own, such as a project folder in your home, or set "
            "workspace to one.",
        )
    if missing is not None:
        raise MountRefused(
            f"The {what} {named} can't be mounted: {missing.strerror}.",
            f"create it, or correct the setting {what}{'s' if what == 'mount' else ''}.",
            str(missing),
        ) from missing
    if not (stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and what == "mount")):
        raise MountRefused(
            f"The {what} {named} is refused: it is not a folder{' or a file' if what == 'mount' else ''}.",
            "name a folder.",
        )
    for socket in sockets:
        if _within(os.path.realpath(socket), real) and not _hidden(os.path.realpath(socket), real):
            raise MountRefused(
                f"The {what} {named} is refused: it holds the engine's socket {socket}, and whoever "
                "reaches that is root.",
                "start Jupyter in a folder further down.",
            )
    return real, (status.st_dev, status.st_ino)


def _opened(path: str) -> tuple[str, os.stat_result]:
    """Return where a path leads, and what is there: both of one moment, since links may change in between.

    :raises OSError: where there is nothing, or it was removed meanwhile.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        real, status = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if status.st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return real, status


def _target(path: str) -> str:
    """Return a mount's place in the container, normalised; the image's own system stays."""
    normal = os.path.normpath(path)
    if normal in _SYSTEM or any(_within(normal, folder) for folder in _MACHINE):
        raise MountRefused(
            f"Nothing can be mounted at {path!r} in the container: its own system is there.",
            "choose another target, such as /data.",
        )
    return normal


def _covers(binds: Sequence[Bind], homes: Iterable[str]) -> Iterator[Cover]:
    """Yield the dot-entries of home folders that lie in what is mounted: keys, tokens, start-up files."""
    for home in sorted({os.path.realpath(home) for home in homes}):
        if not any(_within(home, bind.source) for bind in binds):
            continue
        try:
            entries = sorted(os.scandir(home), key=lambda entry: entry.name)
        except OSError:
            continue  # not readable for the server, so not for a kernel of the same user either
        # A link is covered where it leads: mounting over a link mounts over its target.
        hidden = {os.path.realpath(entry.path) for entry in entries if entry.name.startswith(".")}
        for real in sorted(path for path in hidden if os.path.exists(path)):
            for bind in binds:
                if _below(real, bind.source):
                    yield Cover(_moved(real, bind.source, bind.target), os.path.isdir(real))


def _hidden(path: str, mounted: str) -> bool:
    """Whether a path lies below a dot-entry directly in the mounted folder (those of homes are covered)."""
    first = os.path.relpath(path, mounted).split("/")[0]
    return first.startswith(".") and os.path.realpath(os.path.expanduser("~")) == mounted


def _moved(path: str, old: str, new: str) -> str:
    """Return a path with the folder it lies in replaced by another."""
    rest = path[len(old) :] if old != "/" else path
    return new + rest


def _within(path: str, folder: str) -> bool:
    return path == folder or _below(path, folder)


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
