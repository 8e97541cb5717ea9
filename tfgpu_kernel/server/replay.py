"""Showing a page what a kernel printed while no page could get it.

A page that was left open comes back with the session it had: it knows its cells' requests, so the messages go out on
its channels, as if the connection had never broken. A page that was loaded anew doesn't know them: it gets the
messages by a call, with the ids of the cells that they belong to, and says when it has them (the lab extension does).
One that comes back and is then loaded anew is a page of the second kind, which lacks what the first one got: so that
stays known for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.websocket import WebSocketClosedError

from .. import kept
from ..adopt import Adopted
from ..asked import Asked, Request, fingerprint
from ..boot.keep import GRACE_SECONDS
from ..errors import TfgpuError
from ..kept import Delivered, Kept, Message
from ..provisioner import TfgpuProvisioner
from ..runfolder import RunFolder
from .missed import HEARD_BY_PAGES, by_request, request_of_gap

log = logging.getLogger(__name__)

HEARD_BYTES: Final = 8 * 2**20
"""What is kept in memory of an adopted kernel's messages until a page comes."""
_ANEW_SECONDS: Final = 120.0
"""How long messages stay known that went to the page that was left open: loaded anew it would lack them."""

_AT_ONCE: Final = 100
"""So many messages are replayed without a pause: some milliseconds."""

_waiting: dict[str, Waiting] = {}
_asked: WeakKeyDictionary[Any, Asked] = WeakKeyDictionary()


def _asked_of(manager: Any) -> Asked | None:
    """Return the requests to a manager's kernel, the same for all pages; None where the kernel is none of ours."""
    provisioner = getattr(manager, "provisioner", None)
    if not isinstance(provisioner, TfgpuProvisioner) or provisioner.run is None:
        return None
    known = _asked.get(manager)
    if known is None or known.container != provisioner.container:  # that was before a restart
        known = _asked[manager] = Asked(provisioner.run, provisioner.container)
    return known


@dataclass(frozen=True)
class _Read:
    """What is made of a kernel's files; all that takes long is done in a thread."""

    kept: Kept = field(default_factory=Kept)
    everything: list[Message] = field(default_factory=list)
    new: list[Message] = field(default_factory=list)
    cut: bool = False
    ended: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: RunFolder, delivered: str, known: _Read) -> _Read:
        """Read the files, unless the kernel has kept nothing since it is known."""
        found = kept.read(run, known.kept)
        if found is known.kept:
            return known
        everything = found.everything
        ended = tuple(one.request for one in everything if one.ends)
        return cls(found, everything, found.new(delivered), found.cut(delivered), ended)


class Waiting:
    """An adopted kernel's messages until a page has taken them."""

    def __init__(self, multi: Any, adopted: Adopted) -> None:
        self.run = adopted.run
        self._delivered = kept.delivered(adopted.run)
        self._read = _Read()
        self._reading = asyncio.Lock()
        asked = _asked_of(adopted.manager)
        assert asked is not None
        self._asked = asked
        self.page = asked.requests[-1].page if asked.requests else ""
        self._heard: deque[Message] = deque()
        self._bytes = 0
        self._cut = False
        self._notice: Message | None = None
        self._left: Collection[str] | None = None
        self.shown_to = ""
        """The session of the page that was left open, once it has the messages."""
        manager = adopted.manager
        self._key = manager.session.key
        self._stream = manager.connect_iopub()
        self._stream.on_recv(self._hear)
        if self.page:
            # The kernel addresses its replies to the page's session, so the channels are that session's.
            identity = self.page.encode("ascii", "replace")
            channels = {}
            for name in ("iopub", "shell", "control", "stdin"):
                channels[name] = stream = getattr(manager, f"connect_{name}")(identity=identity)
                stream.channel = name
            multi.start_buffering(adopted.kernel_id, f"{adopted.kernel_id}:{self.page}", channels)

    def _hear(self, frames: Sequence[bytes]) -> None:
        one = kept.message("iopub", frames)
        if one is None or one.header.get("msg_type") not in HEARD_BY_PAGES:
            return
        if one.ends:
            _end(self._asked, one.request)
        if self._left is not None and one.request not in self._left:
            return
        self._heard.append(one)
        self._bytes += sum(map(len, one.frames))
        while self._bytes > HEARD_BYTES:
            self._bytes -= sum(map(len, self._heard.popleft().frames))
            self._cut = True

    def _told(self, messages: list[Message]) -> list[Message]:
        """Begin with the notice that some is lost, where it is."""
        if self._notice is None and (self._cut or self._read.cut):
            request = request_of_gap(self._read.new, self._asked.requests)
            self._notice = kept.notice_of_cut(request, self._key) if request else None
        return messages if self._notice is None else [self._notice, *messages]

    async def read(self) -> None:
        """Read what the kernel kept, unless that is known."""
        async with self._reading:
            if not self.shown_to:
                found = await asyncio.to_thread(_Read.of, self.run, self._delivered, self._read)
                if not self.shown_to:
                    self._read = found
            for request in self._read.ended:
                _end(self._asked, request)

    @property
    def goes_on(self) -> bool:
        """Whether a request isn't known to have ended."""
        return any(self._left is None or one.id in self._left for one in self._asked.unfinished)

    async def missed(self) -> list[dict[str, Any]]:
        """Return what ``by_request`` makes of it."""
        requests = [one for one in self._asked.requests if self._left is None or one.id in self._left]
        known, heard = self._read, tuple(self._heard)

        def answer() -> list[dict[str, Any]]:
            new = {one.id for one in self._told(kept.joined(known.new, heard, _id))}
            everything = self._told(kept.joined(known.everything, heard, _id))
            return by_request(everything, new, requests, self._key)

        async with self._reading:
            return await asyncio.to_thread(answer)

    def fill(self, buffer: dict[str, Any]) -> None:
        """Join what the kernel kept to what the server buffered for the page that was left open."""
        before = [(one.channel, list(one.frames)) for one in self._told(self._read.new)]
        buffer["buffer"] = kept.joined(before, buffer["buffer"], _id_of_frames)

    def shown(self) -> None:
        """Note that the page that was left open has them; from now on only memory holds them."""
        self.shown_to, self.page = self.page, ""
        kept.forget(self.run)

    def leave(self, requests: Collection[str]) -> None:
        """Forget all but some requests' messages: those have no cell on the page that asked."""
        self._left = frozenset(requests)
        self._heard = deque(one for one in self._heard if one.request in self._left)
        self._bytes = sum(sum(map(len, one.frames)) for one in self._heard)

    def close(self) -> None:
        """Forget the messages: a page has them."""
        self._stream.close()
        if not self.shown_to:
            kept.forget(self.run)


def await_pages(multi: Any, adopted: Sequence[Adopted]) -> None:
    """Hold the adopted kernels' messages until a page comes."""
    for one in adopted:
        try:
            _waiting[one.kernel_id] = Waiting(multi, one)
        except Exception:  # the kernel goes on, and the others' messages are theirs
            log.exception("What kernel %s printed meanwhile can't be shown", one.kernel_id)


def drop(kernel_id: str) -> None:
    """Forget a kernel's messages; it is restarted, or gone."""
    waiting = _waiting.pop(kernel_id, None)
    if waiting is not None:
        waiting.close()


def _shown(kernel_id: str, waiting: Waiting) -> None:
    """Forget a kernel's messages after a while: the page that was left open has them."""

    def end() -> None:
        if _waiting.get(kernel_id) is waiting:
            drop(kernel_id)

    waiting.shown()
    asyncio.get_running_loop().call_later(_ANEW_SECONDS, end)


async def missed(kernel_id: str, page: str = "") -> list[dict[str, Any]]:
    """Return what a page that was loaded anew can't get otherwise, as ``by_request`` has it.

    It stays known until a page says that it has it: one that is left before the answer comes has nothing.

    :param page: the session of the page that asks; the one that was left open has all on its channels.
    """
    waiting = _waiting.get(kernel_id)
    if waiting is None or _left_open(kernel_id, page):
        return []
    await waiting.read()
    if waiting.goes_on:
        # The page's own connection is subscribed a little after it is made; until then nobody else hears.
        await asyncio.sleep(GRACE_SECONDS)
        await waiting.read()
    found = await waiting.missed()
    if _waiting.get(kernel_id) is not waiting:
        return []
    if not found:
        drop(kernel_id)  # nothing that a cell could show
    return found


def taken(kernel_id: str, page: str = "", left: Collection[str] = ()) -> None:
    """Forget a kernel's messages: a page that was loaded anew has them.

    :param left: ids of the requests whose cells that page doesn't have; theirs stay known.
    """
    waiting = _waiting.get(kernel_id)
    if waiting is None or _left_open(kernel_id, page):
        return
    if left:
        waiting.leave(left)
    else:
        drop(kernel_id)


def _end(asked: Asked, request: str) -> None:
    """Note that a request has ended; on a full disk only this server knows."""
    with contextlib.suppress(TfgpuError):
        asked.end(request)


def _left_open(kernel_id: str, page: str) -> bool:
    """Whether a page is the one that was left open while no server was there."""
    waiting = _waiting.get(kernel_id)
    return waiting is not None and page != "" and page in {waiting.page, waiting.shown_to}


def _id(one: Message) -> str:
    return one.id


def _id_of_frames(entry: tuple[str, Sequence[Any]]) -> str:
    one = kept.message("iopub", [bytes(frame) for frame in entry[1]])
    return one.id if one is not None else ""


class ReplayingConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel that remembers what it passed on, and begins with what was missed."""

    _delivered: Delivered | None = None
    _replayed: Sequence[Any] = ()

    def _run(self) -> RunFolder | None:
        provisioner = getattr(self.kernel_manager, "provisioner", None)
        return provisioner.run if isinstance(provisioner, TfgpuProvisioner) else None

    async def prepare(self) -> None:
        """Wait until the kernel can be connected to, and read meanwhile what was missed."""
        await super().prepare()
        waiting = _waiting.get(self.kernel_id)
        if waiting is not None and waiting.page == self.session.session:
            await waiting.read()

    def connect(self) -> Any:
        """Connect, with what was missed where the page is the one that was left open."""
        run = self._run()
        if run is not None:
            try:
                self._delivered = Delivered(run)
            except OSError as error:
                self.log.warning("What reaches pages can't be noted: %s", error)
        waiting = _waiting.get(self.kernel_id)
        if waiting is None or waiting.page != self.session.session:
            return super().connect()
        buffer = self.multi_kernel_manager._kernel_buffers.get(self.kernel_id)
        if buffer is not None and buffer["session_key"] == self.session_key:
            waiting.fill(buffer)
            self._replayed = buffer["buffer"]
        limit, self.limit_rate = self.limit_rate, False  # what is replayed comes at once, and is bounded
        connected = super().connect()
        _shown(self.kernel_id, waiting)
        if connected is not None:
            connected.add_done_callback(lambda _: setattr(self, "limit_rate", limit))
        return connected

    def nudge(self) -> Any:
        """Wait until the kernel answers, and replay then what was missed."""
        nudged = super().nudge()
        if not self._replayed:
            return nudged
        buffered, self._replayed = self._replayed, ()
        return asyncio.ensure_future(self._replay(nudged, buffered))

    async def _replay(self, nudged: Any, buffered: Any) -> None:
        """Pass on what is buffered and what comes meanwhile; in between other kernels' pages have their turn."""
        await nudged
        while buffered and self.channels:
            part = buffered[:_AT_ONCE]
            del buffered[:_AT_ONCE]
            try:
                for channel, frames in part:
                    self.handle_outgoing_message(self.channels[channel], frames)
            except (WebSocketClosedError, KeyError):
                return  # the page has gone again
            await asyncio.sleep(0)

    def disconnect(self) -> Any:
        """Disconnect."""
        if self._delivered is not None:
            self._delivered.close()
            self._delivered = None
        return super().disconnect()

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Pass a page's message on; remember which cell a request comes from."""
        self._note_request(incoming_msg)
        super().handle_incoming_message(incoming_msg)

    def _note_request(self, raw: Any) -> None:
        asked = _asked_of(self.kernel_manager)
        quoted: Any = b'"execute_request"' if isinstance(raw, bytes) else '"execute_request"'
        if asked is None or quoted not in raw[:4096]:
            return
        try:
            if self.subprotocol == "v1.kernel.websocket.jupyter.org":
                _, parts = deserialize_msg_from_ws_v1(raw)
                header, metadata, content = (json.loads(parts[number]) for number in (0, 2, 3))
            elif isinstance(raw, str):
                body = json.loads(raw)
                header, metadata, content = body["header"], body["metadata"], body["content"]
            else:
                return
            if header["msg_type"] == "execute_request":
                cell = str(metadata.get("cellId", ""))
                code = fingerprint(content["code"])
                asked.note(Request(str(header["msg_id"]), str(header["session"]), cell, code))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, TfgpuError) as error:
            self.log.debug("A request's cell is not known: %s", error)

    def _on_zmq_reply(self, stream: Any, msg_list: Any) -> None:
        """Pass a kernel's message on; note that a page has it, and that its request has ended."""
        super()._on_zmq_reply(stream, msg_list)
        if self._delivered is None or getattr(stream, "channel", "") != "iopub":
            return
        try:
            header = msg_list["header"] if isinstance(msg_list, dict) else json.loads(bytes(msg_list[0]))
            self._delivered.note(str(header["msg_id"]))
            if header["msg_type"] == "status":
                self._note_end(msg_list)
        except (ValueError, KeyError, IndexError, TypeError, OSError):
            self.log.debug("A message has no id")

    def _note_end(self, status: Any) -> None:
        told = isinstance(status, dict)
        parent = status["parent_header"] if told else json.loads(bytes(status[1]))
        content = status["content"] if told else json.loads(bytes(status[3]))
        asked = _asked_of(self.kernel_manager)
        if asked is not None and content["execution_state"] == "idle":
            _end(asked, str(parent.get("msg_id", "")))


def use(settings: dict[str, Any]) -> None:
    """Have the server's pages connect this way, unless it was told of another."""
    if settings.get("kernel_websocket_connection_class") is ZMQChannelsWebsocketConnection:
        settings["kernel_websocket_connection_class"] = ReplayingConnection
