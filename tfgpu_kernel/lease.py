"""Who holds which GPU: across all servers, users and engines of this machine.

A lease is a small file in the machine's shared memory folder, which every user may write into and nobody but
root can take others' files out of; it is gone after a reboot, as its holder is. It belongs to a kernel's run folder
and ends with it, or with the process that owns that. An exclusive lease is also the name of a container that is
never started, for servers that share an engine and no files. Who decides holds the machine's lock meanwhile, so two
launches at one moment never get the same GPU. See docs/decisions for why it is so.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import logging
import math
import os
import secrets
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, get_args

from . import scratch, wary
from .config import Sharing
from .engine.base import Engine
from .errors import EngineRefused, TfgpuError
from .labels import GPUS, IMAGE_KIND, KIND, KIND_LEASE, OWNER, RUN, UID
from .owner import Owner

log = logging.getLogger(__name__)

FOLDER: Final = Path("/dev/shm")
"""On every Linux, for every user, swept by nobody but a reboot."""
CONTAINER_PREFIX: Final = "tfgpu-lease-"
IMAGE: Final = "tfgpu/lease:1"
"""An image with nothing in it: even a container that is never started must be made of one."""
LOCK_SECONDS: Final = 30.0
"""The lock is held for some files and, for exclusive leases, one create call a GPU; a dead holder frees it."""
_LEASE: Final = "tfgpu-lease-"
_HALF: Final = ".tfgpu-"
_HALF_SECONDS: Final = 10.0
_WAITER: Final = "tfgpu-wait-"
_LOCK: Final = "tfgpu-lease.lock"
_RECORD_BYTES: Final = 65536


@dataclass(frozen=True)
class Holder:
    """One kernel's hold on one GPU, or its place in the queue for some (then ``gpu`` is empty).

    :param gpu: UUID of a GPU or MIG device.
    :param uid: whose kernel it is.
    :param owner: the process that the kernel belongs to, see :class:`tfgpu_kernel.owner.Owner`.
    :param run: path of the kernel's run folder; only its user can look into it.
    :param since: seconds since the epoch.
    :param kernel: the kernel's own first process, once it runs: it may outlive its owner.
    """

    gpu: str
    sharing: Sharing
    uid: int
    owner: str
    run: str
    since: float
    kernel: str = ""

    @property
    def alive(self) -> bool:
        """Whether the kernel still has an owner, or runs on without one until a next server takes it up."""
        return any(process is not None and process.alive for process in map(Owner.parse, (self.owner, self.kernel)))


Choose = Callable[[Sequence[Holder]], Sequence[str]]
"""From who holds what to the UUIDs to take; raises what the user shall see when there are none to take."""


def holders() -> tuple[Holder, ...]:
    """Return who holds which GPU, oldest first. Blocks for less than a millisecond."""
    return tuple(holder for _, holder in _living(_LEASE))


def waiting() -> tuple[Holder, ...]:
    """Return who waits for GPUs, next first."""
    return tuple(holder for _, holder in _living(_WAITER))


def held_by(run: Path) -> tuple[Holder, ...]:
    """Return what a kernel holds."""
    return tuple(holder for holder in holders() if holder.run == str(run))


async def take(choose: Choose, sharing: Sharing, run: Path, uid: int, engine: Engine) -> tuple[str, ...]:
    """Let ``choose`` decide while nobody else does, and write down what it chose; return the UUIDs.

    :raises TfgpuError: whatever ``choose`` raises, or when the machine's lock is not to be had.
    """
    async with _locked():
        known = list(holders())
        while True:
            uuids = tuple(choose(known))
            foreign = await _mark(uuids, run, uid, engine) if sharing == "exclusive" else None
            if foreign is None:
                break
            known.append(foreign)
        for uuid in uuids:
            _write(_LEASE, Holder(uuid, sharing, uid, str(Owner.current()), str(run), time.time()))
    return uuids


@contextmanager
def queued(run: Path, uid: int) -> Iterator[None]:
    """Stand in the queue for GPUs for as long as the block lasts."""
    path = _write(_WAITER, Holder("", "shared", uid, str(Owner.current()), str(run), time.time()))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def forget(run: Path) -> None:
    """End what a kernel holds; its run folder calls this when it is removed."""
    for path, holder in _records(_LEASE):
        if holder.run == str(run):
            _unlink(path)


def take_over(run: Path) -> None:
    """Make the running process the owner of what a kernel holds; its run folder calls this when it changes hands.

    A GPU that somebody else got exclusively meanwhile stays theirs: the kernel's own lease on it ends.
    """
    mine = [(path, holder) for path, holder in _records(_LEASE) if holder.run == str(run)]
    if not mine:
        return
    deadline = time.monotonic() + 1
    descriptor = None
    # Who can't have the lock within a second goes on without: a kernel in use is more than a record of it.
    with contextlib.suppress(TfgpuError):
        while (descriptor := _try_lock()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
    try:
        others = [holder for holder in holders() if holder.run != str(run)]
        for path, holder in mine:
            if not any(
                other.gpu == holder.gpu and "exclusive" in (other.sharing, holder.sharing) for other in others
            ):
                _write(_LEASE, replace(holder, owner=str(Owner.current())))
            _unlink(path)
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def bind(run: Path, container: str, engine: Engine) -> None:
    """Make what a kernel holds last as long as its container's first process, should its owner end before."""
    mine = await asyncio.to_thread(lambda: [entry for entry in _records(_LEASE) if entry[1].run == str(run)])
    if not mine:
        return
    pid = int((await engine.inspect(container))["State"]["Pid"])
    kernel = await asyncio.to_thread(Owner.of, pid)
    # An engine in another pid namespace counts its processes differently: then its number is somebody else's here.
    if kernel is None or container not in await asyncio.to_thread(_cgroup, pid):
        return
    for path, holder in mine:
        await asyncio.to_thread(_put, path, replace(holder, kernel=str(kernel)))


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


async def release(run: Path, engine: Engine) -> None:
    """End what a kernel holds, its marks in the engine first: a name is only removed while the file protects it."""
    for name in marks(run):
        try:
            await engine.remove(name)
        except TfgpuError as error:
            log.warning("The container %s stays for now; it holds nobody up: %s", name, error.message)
    forget(run)


async def sweep(engine: Engine) -> None:
    """Remove this user's leases that ended with their owners: files, and marks in the engine."""
    for prefix in (_LEASE, _WAITER):
        for path, holder in _records(prefix):
            if not holder.alive:
                _unlink(path)
    for path in FOLDER.glob(f"{_HALF}*"):  # of a process that was killed as it wrote
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _HALF_SECONDS:
                _unlink(path)
    if not await engine.list({KIND: KIND_LEASE, UID: str(os.geteuid())}):
        return
    async with _locked():  # marks are made before files are written
        for record in await engine.list({KIND: KIND_LEASE, UID: str(os.geteuid())}):
            if _ended(record.labels.get(OWNER, ""), record.labels.get(RUN, "")):
                await engine.remove(record.id)


def marks(run: Path) -> tuple[str, ...]:
    """Return the names of the containers that mark what a kernel holds exclusively."""
    return tuple(_mark_name(holder.gpu) for holder in held_by(run) if holder.sharing == "exclusive")


def _mark_name(uuid: str) -> str:
    return CONTAINER_PREFIX + _plain(uuid)


async def _mark(uuids: Sequence[str], run: Path, uid: int, engine: Engine) -> Holder | None:
    """Make the containers that say whose the GPUs are; return who else holds one, with nothing made, or None."""
    made: list[str] = []
    for uuid in uuids:
        labels = {KIND: KIND_LEASE, UID: str(uid), OWNER: str(Owner.current()), RUN: str(run), GPUS: uuid}
        other = await _create(_mark_name(uuid), labels, engine)
        if isinstance(other, Holder):
            for container in made:
                await engine.remove(container)
            return other
        made.append(other)
    return None


async def _create(name: str, labels: dict[str, str], engine: Engine) -> str | Holder:
    """Return the new container's id, or who has that name by right."""
    body = {"Image": IMAGE, "Cmd": ["never-started"], "Labels": labels, "NetworkDisabled": True}
    for _ in range(3):
        try:
            return await engine.create(body, name)
        except TfgpuError:
            found = [record for record in await engine.list({KIND: KIND_LEASE}) if record.name == name]
            if not found and await engine.image(IMAGE) is None:
                await _import_nothing(engine)
                continue
            if not found:
                raise
        record = found[0]
        owner, holder = record.labels.get(OWNER, ""), record.labels.get(RUN, "")
        if not _ended(owner, holder):
            return Holder(labels[GPUS], "exclusive", int(record.labels.get(UID, "0")), owner, holder, record.created)
        await engine.remove(record.id)
    raise EngineRefused(
        f"The container {name}, which marks that a GPU is taken, can be neither made nor removed.",
        f"remove it: docker rm --force {name}.",
    )


def _ended(owner: str, run: str) -> bool:
    """Whether a mark in the engine stands for nothing any more.

    Where its owner can be seen, so can its file, and that decides. A server in another pid namespace may have its
    files elsewhere too: then only a reboot or ``docker rm`` ends what it left.
    """
    process = Owner.parse(owner)
    if process is None:
        return True
    return (process.visible or not process.alive) and not held_by(Path(run))


async def _import_nothing(engine: Engine) -> None:
    with scratch.folder() as folder:
        archive = folder / "empty.tar"
        buffer = io.BytesIO()
        tarfile.open(fileobj=buffer, mode="w").close()
        archive.write_bytes(buffer.getvalue())
        await engine.import_image(archive, IMAGE, [f"LABEL {IMAGE_KIND}=lease"])


@asynccontextmanager
async def _locked() -> AsyncIterator[None]:
    """Hold the machine's lock. It is asked for again and again: a wait for it could not be cancelled."""
    deadline = time.monotonic() + LOCK_SECONDS
    while (descriptor := _try_lock()) is None:
        if time.monotonic() > deadline:
            raise TfgpuError(
                f"Another process has been choosing a GPU for {LOCK_SECONDS:g} s (it holds {FOLDER / _LOCK}).",
                f"find it (fuser {FOLDER / _LOCK}), end it, and try again.",
            )
        await asyncio.sleep(0.01 + 0.02 * secrets.randbelow(100) / 100)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock() -> int | None:
    path = FOLDER / _LOCK
    try:
        # Without O_CREAT first: in a sticky folder the kernel may refuse that for another user's file.
        descriptor = wary.opened(path)
    except FileNotFoundError:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            return None
    except OSError as error:
        raise TfgpuError(
            f"No GPU can be given out on this machine: {path} is not the plain file that it should be.",
            f"remove it, as root or as its owner: rm -r {path}.",
            str(error),
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _living(prefix: str) -> list[tuple[Path, Holder]]:
    return [(path, holder) for path, holder in _records(prefix) if holder.alive]


def _records(prefix: str) -> list[tuple[Path, Holder]]:
    """Return the files that begin with ``prefix``, oldest first; one that isn't ours to believe is left out."""
    found = []
    for path in FOLDER.glob(prefix + "*"):
        try:
            with os.fdopen(wary.opened(path), "rb") as file:
                maker = os.fstat(file.fileno()).st_uid
                holder = Holder(**json.loads(file.read(_RECORD_BYTES)))
        except (OSError, ValueError, TypeError, RecursionError):
            continue
        if not _well_formed(holder):
            continue
        # A server of root's speaks for its users; everybody else for themselves.
        found.append((path, holder if maker == 0 else replace(holder, uid=maker)))
    return sorted(found, key=lambda entry: (entry[1].since, entry[0].name))


def _well_formed(holder: Holder) -> bool:
    """Whether what was read of a file has the types that a holder's fields have."""
    texts = (holder.gpu, holder.sharing, holder.owner, holder.run, holder.kernel)
    return (
        all(isinstance(text, str) for text in texts)
        and holder.sharing in get_args(Sharing)
        and isinstance(holder.uid, int)
        and isinstance(holder.since, (int, float))
        and math.isfinite(holder.since)
    )


def _write(prefix: str, holder: Holder) -> Path:
    """Write a new record."""
    path = FOLDER / f"{prefix}{_plain(holder.gpu)}-{secrets.token_hex(6)}"
    _put(path, holder)
    return path


def _put(path: Path, holder: Holder) -> None:
    """Write a record, or write it anew; readers see it whole or not at all."""
    beside = FOLDER / f"{_HALF}{secrets.token_hex(6)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(descriptor, "w") as file:
        json.dump(asdict(holder), file)
        os.fchmod(descriptor, 0o644)  # whatever the umask: everybody must be able to read it
    beside.rename(path)


def _unlink(path: Path) -> None:
    """Remove a record; another user's is not ours to remove, and is passed over once its owner is gone."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return


def _plain(uuid: str) -> str:
    return uuid.replace("/", "_")
