"""A kernel's folder on the host: what it shares with its container, and what only the server reads.

    <root>/<name>/state.json   who runs here now; only the server writes and reads it
    <root>/<name>/owner        the process that the kernel belongs to: who made it, or took it over since
    <root>/<name>/engine       the address of the engine that has the container
    <root>/<name>/handover.json  what the next server needs, should this one end before the kernel
    <root>/<name>/empty        an empty file that covers files the kernel must not see
    <root>/<name>/io/          mounted into the container: connection file, sockets, boot.pyz

The kernel may do in ``io`` what it likes, so the server, which may be root, never opens a file there by
name for writing: it writes beside and renames, which replaces a symlink instead of following it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from jupyter_core.paths import jupyter_runtime_dir
from platformdirs import user_cache_path

from . import additions, lease, wary
from .boot import keep
from .connection import CONNECTION_FILE, Connection, fits
from .errors import NoSpace, TfgpuError, is_full
from .owner import Owner

BOOT_FILE: Final = "boot.pyz"
_STATE: Final = "state.json"
_EMPTY: Final = "empty"
_OWNER: Final = "owner"
_STATE_BYTES: Final = 65536
_ENGINE: Final = "engine"
_IO: Final = "io"
_OF_ONE_START: Final = (keep.FILE, keep.OLD_FILE, keep.CUT_FILE)
"""What a kernel keeps for a next server; a next kernel's is another."""

_PATIENCE_SECONDS: Final = 2.0
"""Taking a kernel over is a matter of milliseconds; who has it for longer removes it."""

State = Literal["starting", "running", "ended"]


@dataclass(frozen=True)
class KernelState:
    """What changes in a kernel's life. Times in seconds since the epoch."""

    kernel_id: str
    kernel_name: str
    notebook: str
    state: State
    container: str
    started: float
    ended: float | None = None
    death: str = ""
    """Why the kernel ended, where it was not asked to."""


@dataclass(frozen=True)
class RunFolder:
    """One kernel's folder; it outlives restarts, so that clients keep their sockets' paths."""

    path: Path

    @classmethod
    def named(cls, run: str) -> RunFolder:
        """Return the folder that a container's label names; :meth:`replace` may have given it another name since."""
        path = Path(run)
        try:
            return cls(path.parent / os.readlink(path))
        except OSError:
            return cls(path)

    @classmethod
    def new(cls) -> RunFolder:
        """Return a place where none is yet; see :meth:`make`.

        :raises TfgpuError: where nothing private can be made at all.
        """
        return cls(_root_for_new() / secrets.token_hex(6))

    def make(self, uid: int, gid: int) -> None:
        """Make the folder, for a kernel that runs as ``uid:gid``, where it is not there.

        On a restart somebody may have removed it: /run/user/UID goes when its user logs out.

        :raises NoSpace: when the disk is full.
        """
        if self.io.is_dir():
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / _OWNER).write_text(str(Owner.current()))
            self.io.mkdir(mode=0o700)
            self.empty.touch(mode=0o444)
            if uid != os.geteuid():
                os.chown(self.io, uid, gid)
        except OSError as error:
            self.remove()
            raise _disk(error, self.path) from error

    @property
    def io(self) -> Path:
        """The part that is mounted into the container."""
        return self.path / _IO

    @property
    def empty(self) -> Path:
        """An empty, read-only file."""
        return self.path / _EMPTY

    def clear(self, name: str) -> None:
        """Remove what the container's part has under a name, a folder too: a cell may have made one."""
        path = self.io / name
        try:
            path.unlink(missing_ok=True)
        except IsADirectoryError:
            shutil.rmtree(path, ignore_errors=True)

    def share(self, name: str, content: bytes, uid: int, gid: int) -> None:
        """Put a file into the container's part, readable by the kernel's user alone.

        :raises NoSpace: when the disk is full.
        """
        beside = self.path / f"{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if uid != os.geteuid():
                    os.fchown(file.fileno(), uid, gid)
            if (self.io / name).is_dir():
                self.clear(name)
            beside.rename(self.io / name)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _disk(error, self.path) from error

    def keep(self, name: str, content: bytes) -> None:
        """Put a file into the server's own part, readable by the server's user alone.

        :raises NoSpace: when the disk is full.
        """
        beside = self.path / f"{name}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            beside.rename(self.path / name)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _disk(error, self.path) from error

    def prepare(self, connection: Connection, boot: bytes, uid: int, gid: int) -> None:
        """Make the folder ready for a start: fresh connection file and boot program, no old sockets."""
        for name in (*(Path(socket).name for socket in connection.sockets), *_OF_ONE_START):
            self.clear(name)
        self.share(CONNECTION_FILE, connection.container_file().encode(), uid, gid)
        self.share(BOOT_FILE, boot, uid, gid)

    def write_state(self, state: KernelState) -> None:
        """Replace the state file; a reader sees the old one or the new one, never half of it."""
        beside = self.path / f"{_STATE}.{secrets.token_hex(4)}"
        try:
            beside.write_text(json.dumps(asdict(state)))
            beside.rename(self.path / _STATE)
        except FileNotFoundError:
            return  # the folder was removed meanwhile: nothing is left to be told
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _disk(error, self.path) from error

    def change_state(self, **changes: object) -> None:
        """Change some fields of the state file, if there is one."""
        state = self.state()
        if state is not None:
            self.write_state(replace(state, **changes))  # type: ignore[arg-type]

    def state(self) -> KernelState | None:
        """Read the state file; None where there is none, or it makes no sense (see :attr:`has_state`).

        What a later version wrote there that this one doesn't know is left out.
        """
        try:
            raw = json.loads(wary.read(self.path / _STATE, _STATE_BYTES))
            return KernelState(**{field.name: raw[field.name] for field in fields(KernelState) if field.name in raw})
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    @property
    def has_state(self) -> bool:
        """Whether there is a state file, be it one that can't be read: then a kernel ran here, and may run on."""
        return os.path.lexists(self.path / _STATE)

    def note_engine(self, address: str) -> None:
        """Write down which engine has the container that is to be made; before there is one.

        :raises NoSpace: when the disk is full.
        """
        self.keep(_ENGINE, address.encode())

    def engine(self) -> str:
        """Return the address of the engine that has the container; empty where none is known (yet)."""
        try:
            return (self.path / _ENGINE).read_text()
        except OSError:
            return ""

    def owner(self) -> Owner | None:
        """Return the process that the kernel belongs to; None where the folder is gone or no one's."""
        try:
            return Owner.parse(wary.read(self.path / _OWNER, _STATE_BYTES).decode(errors="replace"))
        except OSError:
            return None

    def owner_alive(self) -> bool:
        """Whether the process that the kernel belongs to lives."""
        owner = self.owner()
        return owner is not None and owner.alive

    def take_over(self, allowed: Callable[[Owner | None], bool]) -> bool:
        """Make the running process the owner, if the present one may be followed; return whether it is now.

        Of any number of processes that try at once, ``allowed`` is asked one after another, each with the
        owner that the one before left, so exactly one takes a kernel whose owner is gone.
        """
        with self.reserved(allowed, _PATIENCE_SECONDS) as free:
            if not free:
                return False
            before = self.owner()
            try:
                self._write_owner(str(Owner.current()))
            except FileNotFoundError:
                return False  # removed meanwhile
            except OSError as error:
                raise _disk(error, self.path) from error
            try:
                lease.take_over(self.path)
            except OSError as error:
                self.give_back(before)
                raise _disk(error, self.path) from error
        return True

    def give_back(self, owner: Owner | None) -> None:
        """Make the former owner, who is gone, the owner again: what had to follow :meth:`take_over` failed.

        :raises NoSpace: when the disk is full.
        """
        try:
            self._write_owner(str(owner or ""))
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            raise _disk(error, self.path) from error

    def _write_owner(self, owner: str) -> None:
        beside, file = self.path / f"{_OWNER}.{secrets.token_hex(4)}", self.path / _OWNER
        try:
            beside.write_text(owner)
            beside.rename(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            if not is_full(error) or not file.is_file():
                raise
            # There is no room for a second file, but this one has its place. Blanks cover what was longer.
            with file.open("r+b", buffering=0) as there:
                there.write(owner.encode().ljust(file.stat().st_size))

    @contextmanager
    def reserved(self, allowed: Callable[[Owner | None], bool], patience: float = 0.0) -> Iterator[bool]:
        """Keep everybody else from taking the kernel over while the block lasts, if its present owner allows that.

        Gives whether it is reserved: not where the owner doesn't allow it, somebody else has it reserved (who
        removes it, perhaps), or it is gone.
        """
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            yield False
            return
        try:
            yield _locked(folder, patience) and allowed(self.owner())
        finally:
            os.close(folder)

    def replace(self, old: RunFolder) -> RunFolder:
        """Put this folder in the place of another, whose kernel has ended, and return it as it is called then.

        There may be nothing in that place any more: a restart that fails leaves only the name.

        The sockets then have the old one's paths, on which clients wait. What else the server kept in the old
        folder stays. This folder's own name, which its container's label bears, leads to it.
        """
        aside = old.path.with_name(f"{old.path.name}.old")
        try:
            with contextlib.suppress(FileNotFoundError):
                old.path.rename(aside)
            self.path.rename(old.path)
            self.path.symlink_to(old.path.name)
            for entry in aside.iterdir() if aside.is_dir() else ():
                if not (old.path / entry.name).exists():
                    entry.rename(old.path / entry.name)
        except OSError as error:
            raise _disk(error, self.path) from error
        shutil.rmtree(aside, ignore_errors=True)
        return old

    def remove(self) -> None:
        """Remove the folder and all that is in it, and the names that lead to it; its GPUs are free then."""
        lease.forget(self.path)
        additions.forget(self.path.name)
        real = self.path.resolve()
        shutil.rmtree(real, ignore_errors=True)
        try:
            names = [entry for entry in real.parent.iterdir() if entry.is_symlink()]
        except OSError:
            return
        for name in names:
            if name.resolve() == real:
                name.unlink(missing_ok=True)


def roots() -> tuple[Path, ...]:
    """Return where run folders are made, the first that fits first.

    Jupyter's runtime folder is the natural place; a long user name can make its path too long for a
    socket, then a private folder in /tmp serves. Both are looked through when listing.
    """
    return (Path(jupyter_runtime_dir()) / "tfgpu", Path(f"/tmp/tfgpu-{os.geteuid()}"))


def existing() -> Iterator[RunFolder]:
    """Yield the run folders of this user."""
    for root in roots():
        if root.is_dir():
            # A name that leads to another folder is none of its own, see RunFolder.replace.
            folders = (path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink())
            yield from map(RunFolder, folders)


def cache_folder(uid: int | None = None) -> Path:
    """Return the folder of caches that outlive a kernel (data sets, CUDA's compiled code), per user.

    A server that runs as root keeps one for each user that it starts kernels for.
    """
    base = Path(user_cache_path("tfgpu"))
    return base if uid in {None, os.geteuid()} else base / f"uid-{uid}"


def _root_for_new() -> Path:
    for root in roots():
        if fits(str(root / ("0" * 12) / _IO)):
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir(mode=0o700, exist_ok=True)
            status = os.lstat(root)
            # In /tmp anybody could have made it first; then its sockets would be theirs.
            if status.st_uid == os.geteuid() and not os.path.islink(root):
                if status.st_mode & 0o077:
                    root.chmod(0o700)
                return root
    raise TfgpuError(
        f"No private folder for the kernel's sockets could be made: {' and '.join(map(str, roots()))} "
        "have paths that are too long for a socket, or belong to somebody else.",
        "set JUPYTER_RUNTIME_DIR to a short path of your own, such as /run/user/"
        f"{os.geteuid()}/jupyter, and start Jupyter again.",
    )


def _locked(folder: int, patience: float) -> bool:
    """Lock an open folder; False where somebody holds it for longer than ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _disk(error: OSError, path: Path) -> TfgpuError:
    return NoSpace(
        f"The kernel's run folder {path} could not be written: {error.strerror}.",
        f"make room on the disk that holds {path.parent}, or set JUPYTER_RUNTIME_DIR to another one.",
        str(error),
    )
