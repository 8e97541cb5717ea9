"""What a kernel kept while no server heard it (boot/keep.py), read back, and what reached a page last.

The kept files lie in the kernel's own part of the run folder, so they are read with suspicion: no links, no pipes,
no more than they may hold; what makes no sense ends the reading.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from jupyter_client.session import Session

from . import wary
from .boot import keep
from .runfolder import RunFolder

DELIVERED: Final = "delivered"
"""The id of the message that reached a page last; only the server writes it."""
_HEAD: Final = struct.Struct(">IBBd")
_DELIMITER: Final = b"<IDS|MSG>"
_ID_BYTES: Final = 160

T = TypeVar("T")
Channel = Literal["iopub", "shell"]


@dataclass(frozen=True)
class Message:
    """One message, as it was on the wire."""

    channel: Channel
    frames: tuple[bytes, ...]
    header: Mapping[str, Any]
    parent: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The message's own id."""
        return str(self.header.get("msg_id", ""))

    @property
    def page(self) -> str:
        """The session of the page whose request it answers."""
        return str(self.parent.get("session", ""))

    @property
    def request(self) -> str:
        """The id of the request that it answers."""
        return str(self.parent.get("msg_id", ""))

    @property
    def ends(self) -> bool:
        """Whether it says that its request has ended."""
        return self.header.get("msg_type") == "status" and b'"idle"' in self.frames[-1]


def message(channel: Channel, frames: Sequence[bytes]) -> Message | None:
    """Read a message's headers; None where the frames are no message."""
    try:
        start = list(frames).index(_DELIMITER)
        header, parent = json.loads(frames[start + 2]), json.loads(frames[start + 3])
    except (ValueError, IndexError):
        return None
    if not isinstance(header, dict) or not isinstance(parent, dict):
        return None
    return Message(channel, tuple(frames), header, parent)


@dataclass(frozen=True)
class Kept:
    """What a kernel had kept when its files were read."""

    files: tuple[tuple[int, int, int], ...] = ()
    """Inode, size and time of each file, by which one sees that a kernel has kept more since."""
    records: tuple[tuple[int, Message | None], ...] = ()
    """Each message, oldest first, and whether anybody heard it; None in the place of some that are lost."""

    @property
    def everything(self) -> list[Message]:
        """All that is kept, what pages have got included, oldest first.

        A request that ran when something was lost has no beginning (``execute_input``) there: it isn't whole.
        """
        found: list[Message] = []
        running: dict[str, int] = {}  # where requests begin that haven't ended
        broken: set[int] = set()
        for _, one in self.records:
            if one is None:
                broken.update(running.values())
                running.clear()
                continue
            if one.ends:
                running.pop(one.request, None)
            elif one.header.get("msg_type") == "execute_input":
                running[one.request] = len(found)
            found.append(one)
        return [one for place, one in enumerate(found) if place not in broken]

    def new(self, delivered: str) -> list[Message]:
        """Return what no page has got, oldest first.

        :param delivered: the id of the last message that reached a page. Where it is unknown, only what was sent
            while nobody listened is certain to be new.
        """
        return [one for one in self._after(delivered) if one is not None]

    def cut(self, delivered: str) -> bool:
        """Whether some of what no page has got is lost: the kernel printed more than it keeps, or its disk was full."""
        return None in self._after(delivered)

    def _after(self, delivered: str) -> list[Message | None]:
        new: list[Message | None] = []
        unheard: list[Message | None] = []
        for heard, one in self.records:
            if one is not None and one.channel == "iopub" and one.id == delivered:
                new, unheard = [], []
                continue
            new.append(one)
            if one is None or heard == keep.UNHEARD or one.channel == "shell":
                unheard.append(one)
        return new if delivered else unheard


def read(run: RunFolder, known: Kept | None = None) -> Kept:
    """Read what a kernel kept, 8 MiB of it at most, which takes a good part of a second: in a thread.

    :param known: what was read before; it is returned where the kernel has kept nothing since.
    """
    names = (keep.CUT_FILE, keep.OLD_FILE, keep.FILE)
    files = tuple(_state(run.io / name) for name in names)
    if known is not None and known.files == files:
        return known
    records: list[tuple[int, Message | None]] = []
    if os.path.lexists(run.io / keep.CUT_FILE):
        records.append((keep.UNHEARD, None))
    for name in names[1:]:
        with contextlib.suppress(OSError):
            records.extend(_parsed(wary.read(run.io / name, 3 * keep.FILE_BYTES)))
    return Kept(files, tuple(records))


def _state(file: Path) -> tuple[int, int, int]:
    try:
        found = file.lstat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _parsed(data: bytes) -> Iterator[tuple[int, Message | None]]:
    if not data:
        yield keep.UNHEARD, None  # made for a record that found no room
    at = 0
    while at + _HEAD.size <= len(data):
        size, channel, heard, _ = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        body, at = data[at : at + size], at + size
        frames = _frames(body) if len(body) == size else None
        if frames is None:
            return
        if channel == keep.LOST:
            yield heard, None
            continue
        one = message("shell" if channel == keep.SHELL else "iopub", frames)
        if one is not None:
            yield heard, one


def _frames(body: bytes) -> list[bytes] | None:
    frames, at = [], 0
    while at < len(body):
        if at + 4 > len(body):
            return None
        size = int.from_bytes(body[at : at + 4], "big")
        frame = body[at + 4 : at + 4 + size]
        if len(frame) != size:
            return None
        frames.append(frame)
        at += 4 + size
    return frames


def notice_of_cut(request: Mapping[str, Any], key: bytes) -> Message:
    """Return a message, as the kernel would have sent it for the request of this header: something is lost."""
    text = (
        "[tfgpu: some of what was printed while no page was there is lost: it was more than is kept "
        f"({2 * keep.FILE_BYTES // 2**20} MiB), one message had more than {keep.FILE_BYTES // 2**20} MiB, or the disk "
        "was full. What follows is what was kept.]\n"
    )
    session = Session(key=key, username="tfgpu")
    raw = session.msg("stream", {"name": "stderr", "text": text}, parent={"header": dict(request)})
    return Message("iopub", tuple(session.serialize(raw)), raw["header"], request)


def forget(run: RunFolder) -> None:
    """Remove what was kept: it has been shown."""
    for name in (keep.FILE, keep.OLD_FILE, keep.CUT_FILE):
        with contextlib.suppress(OSError):
            (run.io / name).unlink()


class Delivered:
    """The file that says which message reached a page last; written in place, some microseconds a message."""

    def __init__(self, run: RunFolder) -> None:
        self._file = os.open(run.path / DELIVERED, os.O_WRONLY | os.O_CREAT, 0o600)

    def note(self, message_id: str) -> None:
        """Note a message that was handed to a page's connection."""
        os.pwrite(self._file, message_id.encode()[:_ID_BYTES].ljust(_ID_BYTES), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def delivered(run: RunFolder) -> str:
    """Return the id of the message that reached a page last; empty where none did."""
    try:
        return (run.path / DELIVERED).read_text(errors="replace").strip()
    except OSError:
        return ""


def joined(kept: Sequence[T], heard: Sequence[T], id_of: Callable[[T], str]) -> list[T]:
    """Join what the kernel kept and what the server heard, each message once and in the order of sending.

    Both are in order, and may overlap: a kernel goes on keeping for a moment when a server comes.
    """
    places = {id_of(one): place for place, one in enumerate(heard) if id_of(one)}
    result: list[T] = []
    told = 0
    for one in kept:
        place = places.get(id_of(one))
        if place is None:
            result.append(one)
        elif place >= told:
            result.extend(heard[told : place + 1])
            told = place + 1
    return [*result, *heard[told:]]
