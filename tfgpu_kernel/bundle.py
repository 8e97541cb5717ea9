"""A locked notebook with all it needs, in one file: for machines without a network, and for tools without us.

Entries are stored and never compressed, so a bundle is as large as what comes out of it: there is no bomb to
refuse. Each entry stands in a list with its SHA-256, and what is not in the list, or not as it says there, is
not unpacked.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from . import disk, imagename, scratch
from .engine.base import Engine, ImageRecord
from .errors import BundleRefused, ConfigError, ImageNotFound, ImageUnusable
from .image import archive
from .lock import data, elsewhere, read
from .lock.read import Found
from .lock.record import Lock
from .progress import Report, Step

LIST: Final = "tfgpu-bundle.json"
IMAGE: Final = "image.tar"
VERSION: Final = 1
MAX_ENTRIES: Final = 4096
MAX_LIST_BYTES: Final = 4 * 2**20
_NOTEBOOK: Final = "notebook"
_MADE: Final = ("Dockerfile", ".devcontainer/devcontainer.json", "requirements.txt", "seeds.py")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_STAMP: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 2**20


@dataclass(frozen=True)
class Opened:
    """A bundle that was looked at, and nothing more: what it holds, and the lock of its notebook."""

    path: Path
    notebook: str
    """The notebook's file name."""
    found: Found
    files: Mapping[str, tuple[str, int]]
    """Entry → SHA-256 and size in bytes."""

    @property
    def has_image(self) -> bool:
        """Whether the image comes along."""
        return IMAGE in self.files


async def export(
    notebook: Path, lock: Lock, target: Path, engine: Engine | None, report: Report
) -> None:
    """Write a bundle, whole or not at all.

    :param engine: where the image is, if it is to come along.
    :raises ConfigError: where a data file is not here, or has changed since; where a name can't be in a bundle, or
        something can't be read or written.
    :raises ImageNotFound: where the image is not here.
    :raises NoSpace: where the disk is full.
    """
    with disk.told(f"export {notebook.name}", f"write to another place: jupyter tfgpu export {notebook} -o FILE"):
        await _export(notebook, lock, target, engine, report)


async def _export(notebook: Path, lock: Lock, target: Path, engine: Engine | None, report: Report) -> None:
    _check_names(notebook, lock)
    for one in await asyncio.to_thread(data.states, lock.data, notebook):
        if one.state != "here":
            raise ConfigError(
                f"The data file {one.file.name} is {one.state}, so the bundle would not be what was locked.",
                f"put it back, or lock the notebook again: jupyter tfgpu lock {notebook}.",
            )
    with scratch.beside(target.resolve().parent) as folder:
        sources: dict[str, Path | bytes] = {
            f"{_NOTEBOOK}/{notebook.name}": notebook,
            "Dockerfile": elsewhere.dockerfile(lock, notebook.name, _named(lock) if engine else "").encode(),
            ".devcontainer/devcontainer.json": elsewhere.devcontainer(lock).encode(),
            "requirements.txt": elsewhere.requirements(lock).encode(),
            "seeds.py": elsewhere.seeds(lock).encode(),
        }
        for file in lock.data:
            sources[f"{file.place}/{file.name}"] = data.folder(file.place, notebook) / file.name
        if engine is not None:
            sources[IMAGE] = await _save(lock, engine, folder / IMAGE, report)
        partial = folder / "bundle.zip"
        await asyncio.to_thread(_write, partial, sources, notebook.name, report)
        os.chmod(partial, 0o644)
        partial.replace(target)


def look(path: Path) -> Opened:
    """Open a bundle and read its list and its notebook's lock; nothing is written.

    :raises BundleRefused: where it is damaged, or holds what it must not hold.
    :raises ConfigError: where the file is not there, or can't be read.
    :raises LockInvalid: and its kin, where its notebook's lock can't be used.
    """
    with _readable(path), _opened(path) as zipped:
        infos = zipped.infolist()
        if len(infos) > MAX_ENTRIES:
            raise _refused(f"it has {len(infos)} entries, more than {MAX_ENTRIES}")
        names = [info.filename for info in infos]
        if len(set(names)) != len(names) or len({name.lower() for name in names}) != len(names):
            raise _refused("two entries have the same name")
        for info in infos:
            _judge(info)
        if sum(info.file_size for info in infos) > path.stat().st_size:
            raise _refused("its entries overlap: together they are larger than the file")
        files, notebook = _list(zipped, names)
        for info in infos:
            if info.filename != LIST and info.file_size != files[info.filename][1]:
                raise _refused(f"{_shown(info.filename)} has another size than the list says")
        entry = f"{_NOTEBOOK}/{notebook}"
        if files[entry][1] > read.MAX_NOTEBOOK_BYTES:
            raise _refused("its notebook is too large")
        content = zipped.read(entry)
    if hashlib.sha256(content).hexdigest() != files[entry][0]:
        raise _refused(f"{entry} was changed")
    raw = read.parse(content, Path(notebook))
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    if not isinstance(metadata, dict) or "tfgpu" not in metadata:
        raise _refused("its notebook has no lock")
    found = read.check(metadata["tfgpu"])
    allowed = {LIST, IMAGE, entry, *_MADE, *(f"{one.place}/{one.name}" for one in found.lock.data)}
    strange = sorted(set(names) - allowed)
    if strange:
        raise _refused(f"its lock knows nothing of {_shown(strange[0])}")
    for one in found.lock.data:
        if files.get(f"{one.place}/{one.name}") != (one.sha256, one.size_bytes):
            raise _refused(f"the data file {_shown(one.name)} is missing, or is not the one that was locked")
    return Opened(path, notebook, found, files)


async def unpack(opened: Opened, folder: Path, engine: Engine | None, report: Report) -> Path:
    """Unpack into a folder, and load the image; return the notebook's path. Files that are there stay.

    :param engine: where the image goes; None leaves it aside.
    :raises BundleRefused: where an entry is not what the list says, or a file of that name is there already.
    :raises NoSpace: where the disk of the folder, or of the engine, is full.
    :raises ConfigError: where something can't be read or written for another reason.
    """
    again = f"take another folder: jupyter tfgpu import {opened.path} -o FOLDER"
    with disk.told(f"unpack {opened.path.name} into {folder}", again):
        return await _unpack(opened, folder, engine, report)


async def _unpack(opened: Opened, folder: Path, engine: Engine | None, report: Report) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with scratch.beside(folder) as work:
        moves = await asyncio.to_thread(_extract, opened, folder, work, report)
        if engine is not None and opened.has_image:
            await _load(opened.found.lock, work / IMAGE, engine, report)
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)  # fails where something is there, a link included
            except FileExistsError:
                if target.is_symlink() or data.digest(target) != data.digest(source):
                    raise _there(target) from None
            except OSError:  # another file system
                if os.path.lexists(target):
                    raise _there(target) from None
                _copy(source, target)
    return folder / opened.notebook


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all."""
    try:
        shutil.copyfile(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _write(partial: Path, sources: Mapping[str, Path | bytes], notebook: str, report: Report) -> None:
    files = {}
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as zipped:
        for name, source in sources.items():
            report(Step("unpacking", f"Writing {name}"))
            info = zipfile.ZipInfo(name, _STAMP)
            info.external_attr = 0o100644 << 16
            made, size = hashlib.sha256(), 0
            with zipped.open(info, "w", force_zip64=True) as file:
                for chunk in _chunks(source):
                    made.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            files[name] = {"sha256": made.hexdigest(), "size_bytes": size}
        listed = {"version": VERSION, "notebook": notebook, "files": files}
        zipped.writestr(zipfile.ZipInfo(LIST, _STAMP), json.dumps(listed, indent=1) + "\n")


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a bundle; what is wrong with it as a zip file is a refusal, what the system says is not."""
    try:
        with zipfile.ZipFile(path) as zipped:
            yield zipped
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refused(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _refused("it names a place in the file that can't be") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        with disk.told(f"read the bundle {path}", "name another file"):
            yield
    except ConfigError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise ConfigError(f"There is no file {path}.", "name a bundle that jupyter tfgpu export wrote.") from None


def _judge(info: zipfile.ZipInfo) -> None:
    """Refuse an entry that is no plain, stored file at a plain path."""
    name = info.filename
    kind = info.external_attr >> 28
    unusable = _unusable(name) or ("leads elsewhere" if info.orig_filename != name else "")
    if unusable:
        raise _refused(f"an entry has the name {_shown(info.orig_filename)}, which {unusable}")
    if kind not in (0, 0o10):
        raise _refused(f"{_shown(name)} is a link or another special file")
    if info.flag_bits & 1:
        raise _refused(f"{_shown(name)} is encrypted")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise _refused(f"{_shown(name)} is compressed; entries of a bundle are not")


def _unusable(name: str) -> str:
    """Return what is wrong with an entry's name, on any system that it may be unpacked on; empty where nothing is."""
    if not name.isprintable() or any(part in ("", ".", "..") for part in name.split("/")):
        return "leads elsewhere"
    return "can't be used" if "\\" in name or ":" in name or len(name) > 300 else ""


def _check_names(notebook: Path, lock: Lock) -> None:
    """Refuse to write what nobody could import.

    :raises ConfigError: with what to rename.
    """
    entry = f"{_NOTEBOOK}/{notebook.name}"
    if _unusable(entry) or not notebook.name.endswith(".ipynb"):
        raise ConfigError(
            f"The notebook's name, {_shown(notebook.name)}, can't be in a bundle: it must end in .ipynb, without a "
            "colon or a backslash, which not every system can have.",
            "rename the notebook, and export it again.",
        )
    taken = {entry.lower(), IMAGE, *(name.lower() for name in _MADE)}
    for file in lock.data:
        name = f"{file.place}/{file.name}"
        if _unusable(name) or name.lower() in taken:
            raise ConfigError(
                f"The data file's name, {_shown(file.name)}, can't be in a bundle: it is too long, or differs from "
                "another by upper and lower case alone, which not every system can have.",
                f"rename it in the notebook, too, and lock the notebook again: jupyter tfgpu lock {notebook}.",
            )
        taken.add(name.lower())


def _list(zipped: zipfile.ZipFile, names: Sequence[str]) -> tuple[dict[str, tuple[str, int]], str]:
    """Read the list of entries, and hold it against those that there are."""
    if LIST not in names or zipped.getinfo(LIST).file_size > MAX_LIST_BYTES:
        raise _refused(f"it has no usable {LIST}")
    try:
        listed = json.loads(zipped.read(LIST))
        version = listed["version"]
        files = {str(name): (str(one["sha256"]), one["size_bytes"]) for name, one in listed["files"].items()}
        notebook = listed["notebook"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(f"its list can't be read: {error}") from error
    if isinstance(version, int) and version > VERSION:
        raise BundleRefused(
            "The bundle was made by a later tfgpu-kernel.", "upgrade: pip install --upgrade tfgpu-kernel."
        )
    if version != VERSION or not isinstance(notebook, str) or not notebook.endswith(".ipynb"):
        raise _refused("its list is not one of ours")
    if set(files) != set(names) - {LIST} or f"{_NOTEBOOK}/{notebook}" not in files or "/" in notebook:
        raise _refused("its entries are not those in its list")
    for name, (digest, size) in files.items():
        if not _SHA256.fullmatch(digest) or type(size) is not int or size < 0:
            raise _refused(f"its list says nothing usable of {_shown(name)}")
    return files, notebook


def _extract(opened: Opened, folder: Path, work: Path, report: Report) -> list[tuple[Path, Path]]:
    """Copy the entries into a folder of work, checked; return where each then goes."""
    moves = []
    with _opened(opened.path) as zipped:
        for name, (digest, size) in opened.files.items():
            report(Step("unpacking", f"Unpacking {name}"))
            source = work / (IMAGE if name == IMAGE else hashlib.sha256(name.encode()).hexdigest())
            with zipped.open(name) as entry, source.open("xb") as file:
                if _copied(entry, file, size) != digest:
                    raise _refused(f"{_shown(name)} was changed")
            if name != IMAGE and name not in _MADE:  # those are for tools that unzip it themselves
                moves.append((source, _target(name, folder)))
    root = folder.resolve()
    cache = data.folder("keras-datasets", folder / opened.notebook).resolve()
    for source, target in moves:
        where = target.parent.resolve()
        if not (where.is_relative_to(root) or where.is_relative_to(cache)):
            raise _refused(f"{_shown(str(target))} would lie outside, by a link in the folder")
        if os.path.lexists(target) and (target.is_symlink() or data.digest(target) != data.digest(source)):
            raise _there(target)
    return moves


def _copied(entry: IO[bytes], file: IO[bytes], size: int) -> str:
    made, rest = hashlib.sha256(), size
    while rest > 0 and (chunk := entry.read(min(_CHUNK, rest))):
        made.update(chunk)
        file.write(chunk)
        rest -= len(chunk)
    return made.hexdigest() if rest == 0 else ""


def _target(name: str, folder: Path) -> Path:
    place, _, rest = name.partition("/")
    if place == "keras-datasets":
        return data.folder("keras-datasets", folder / "any.ipynb") / rest
    return folder / rest if place == _NOTEBOOK else folder / name


def _names(lock: Lock) -> tuple[str, str]:
    """Return the names in the archive: of the image, and of the one with the packages."""
    return f"tfgpu-locked/{lock.subject()[:16]}:image", f"tfgpu-locked/{lock.subject()[:16]}:completed"


def _named(lock: Lock) -> str:
    return _names(lock)[1 if lock.packages.layers else 0]


async def _save(lock: Lock, engine: Engine, target: Path, report: Report) -> Path:
    """Save the image, and the one with the lock's packages where it is here, under names of their own."""
    wanted = [lock.image.layers, *([lock.packages.layers] if lock.packages.layers else [])]
    here = await engine.images({})
    names = []
    for number, layers in enumerate(wanted):
        record = next((image for image in here if image.layers == layers), None)
        if record is None:
            raise ImageNotFound(
                f"The image {lock.image.reference}{' with the packages added' if number else ''} is not here as it "
                "was locked, so it can't come along.",
                "get it (jupyter tfgpu execute NOTEBOOK), or lock the notebook again.",
            )
        names.append(await _plain(record, _names(lock)[number], engine))
    try:
        await archive.save(names, engine, target, report)
        archive.beside(target).unlink()
    finally:
        for name in names:
            await engine.remove_image(name)
    return target


async def _plain(record: ImageRecord, name: str, engine: Engine) -> str:
    """Name an image with our labels emptied: what comes in a bundle must not pass for what was made here."""
    ours = {label: "" for label in record.labels if label.startswith("io.tfgpu.")}
    if not ours:
        await engine.tag(record.id, name)
        return name
    base = f"{name}-made"
    await engine.tag(record.id, base)
    try:
        async for _ in engine.build(_context(f"FROM {base}\n"), tag=name, labels=ours):
            pass
    finally:
        await engine.remove_image(base)
    return name


def _context(dockerfile: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        tar.addfile(info, io.BytesIO(dockerfile.encode()))
    return buffer.getvalue()


async def _load(lock: Lock, file: Path, engine: Engine, report: Report) -> None:
    """Load the image, if its archive holds what the lock names, and nothing else.

    :raises BundleRefused: otherwise; what was loaded is taken away again. What the engine can't do is its own error.
    """
    try:
        claimed = await asyncio.to_thread(archive.contents, file)
    except ImageUnusable as error:
        raise _refused(error.details or error.message) from error
    wanted = {lock.image.layers, *([lock.packages.layers] if lock.packages.layers else [])}
    if not claimed or set(claimed.values()) != wanted:
        raise _refused("the image in it is not the one to which its notebook is locked")
    if not all(imagename.familiar(name).startswith("tfgpu-locked/") for name in claimed):
        raise _refused("the image in it would take the name of another")
    try:
        loaded = await archive.load(file, engine, report)
    except ImageUnusable as error:
        raise _refused(error.details or error.message) from error
    for one in loaded:
        record = await engine.image(one.reference)
        labels = record.labels if record else {}
        if any(value for label, value in labels.items() if label.startswith("io.tfgpu.")):
            for other in loaded:
                await engine.remove_image(other.reference)
            raise _refused("the image in it claims to have been made on this machine")


def _there(target: Path) -> BundleRefused:
    return BundleRefused(
        f"There is another file {target} already, and nothing is written over it.",
        "import into another folder: jupyter tfgpu import BUNDLE -o FOLDER.",
    )


def _shown(name: str) -> str:
    plain = "".join(sign if sign.isprintable() else "?" for sign in name)
    return repr(plain[:100])


def _refused(why: str) -> BundleRefused:
    return BundleRefused(
        "The bundle can't be trusted, so nothing of it was unpacked.",
        "have its author export it again, and carry it over once more.",
        why,
    )

