"""Showing a page what a kernel printed while no page could get it.

A page that was left open comes back with the session it had: it knows its cells' requests, so the messages go out on
its channels, as if the connection had never broken. A page that was loaded anew doesn't know them: it gets the
messages by a call, with the ids of the cells that they belong to, and says when it has them (the lab extension does).
One that comes back and is then loaded anew is a page of the second kind, which lacks what the first one got: so that
stays known for a while.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from .. import kept
from ..adopt import Adopted
from ..boot.keep import GRACE_SECONDS
from ..errors import TfgpuError
from ..kept import Delivered, Message, Request
from ..provisioner import TfgpuProvisioner
from ..runfolder import RunFolder

HEARD_BYTES: Final = 8 * 2**20
"""What is kept in memory of an adopted kernel's messages until a page comes."""
_ANEW_SECONDS: Final = 120.0
"""How long messages stay known that went to the page that was left open: loaded anew it would lack them."""
_HEARD_BY_PAGES: Final = frozenset({"stream", "display_data", "execute_result", "error", "update_display_data",
                                    "clear_output", "status", "execute_input"})  # fmt: skip

_waiting: dict[str, Waiting] = {}


class Waiting:
    """An adopted kernel's messages until a page has taken them."""

    def __init__(self, multi: Any, adopted: Adopted) -> None:
        self.run = adopted.run
        self._delivered = kept.delivered(adopted.run)
        requests = kept.requests(adopted.run)
        self.page = requests[-1].page if requests else ""
        self._heard: deque[Message] = deque()
        self._bytes = 0
        self._cut = False
        self._notice: Message | None = None
        self._shown: tuple[list[Message], list[Message]] | None = None
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
        if one is None or one.header.get("msg_type") not in _HEARD_BY_PAGES:
            return
        self._heard.append(one)
        self._bytes += sum(map(len, one.frames))
        while self._bytes > HEARD_BYTES:
            self._bytes -= sum(map(len, self._heard.popleft().frames))
            self._cut = True

    def _told(self, messages: list[Message]) -> list[Message]:
        """Begin with the notice that some is lost, where it is."""
        if not messages or not self._is_cut():
            return messages
        self._notice = self._notice or kept.notice_of_cut(messages[0], self._key)
        return [self._notice, *messages]

    def _is_cut(self) -> bool:
        if self._shown is None:
            self._cut = self._cut or kept.cut(self.run, self._delivered)
        return self._cut

    def messages(self) -> list[Message]:
        """Return all that no page has got."""
        before = self._shown[0] if self._shown else kept.read(self.run, self._delivered)
        return self._told(kept.joined(before, tuple(self._heard), _id))

    def everything(self) -> list[Message]:
        """Return all that is known, what a page had got before included."""
        before = self._shown[1] if self._shown else kept.everything(self.run)
        return self._told(kept.joined(before, tuple(self._heard), _id))

    def fill(self, buffer: dict[str, Any]) -> None:
        """Join what the kernel kept to what the server buffered for the page that was left open."""
        before = [(one.channel, list(one.frames)) for one in self._told(kept.read(self.run, self._delivered))]
        buffer["buffer"] = kept.joined(before, buffer["buffer"], _id_of_frames)

    @property
    def goes_on(self) -> bool:
        """Whether the latest request isn't known to have ended."""
        requests = kept.requests(self.run)
        return bool(requests) and not any(_ends(one, requests[-1].id) for one in self.everything())

    def shown(self) -> None:
        """Note that the page that was left open has them; from now on only memory holds them."""
        self._is_cut()
        self._shown = (kept.read(self.run, self._delivered), kept.everything(self.run))
        self.shown_to, self.page = self.page, ""
        kept.forget(self.run)

    def close(self) -> None:
        """Forget the messages: a page has them."""
        self._stream.close()
        if self._shown is None:
            kept.forget(self.run)


def await_pages(multi: Any, adopted: Sequence[Adopted]) -> None:
    """Hold the adopted kernels' messages until a page comes."""
    for one in adopted:
        _waiting[one.kernel_id] = Waiting(multi, one)


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


async def missed(kernel_id: str, key: bytes, page: str = "") -> list[dict[str, Any]]:
    """Return what a page that was loaded anew can't get otherwise, for each request that has a cell.

    It stays known until a page says that it has it: one that is left before the answer comes has nothing.

    :param page: the session of the page that asks; the one that was left open has all on its channels.
    :return: ``{"cell_id", "msg_id", "whole", "messages": [{"id", "type", "content"}]}`` for each request, oldest
        first. ``whole`` says that the messages are all of the request's, from its beginning on; a page that wasn't
        saved lacks some that the page before it had got.
    """
    if _left_open(kernel_id, page):
        return []
    if kernel_id in _waiting and _waiting[kernel_id].goes_on:
        # The page's own connection is subscribed a little after it is made; until then nobody else hears.
        await asyncio.sleep(GRACE_SECONDS)
    waiting = _waiting.get(kernel_id)
    if waiting is None:
        return []
    session = Session(key=key)
    cells = {one.id: one.cell for one in kept.requests(waiting.run) if one.cell}
    found: dict[str, list[dict[str, Any]]] = {}
    everything = waiting.everything()
    whole = {
        str(one.parent.get("msg_id", "")) for one in everything if one.header.get("msg_type") == "execute_input"
    }
    new = {one.id for one in waiting.messages()}
    touched = {str(one.parent.get("msg_id", "")) for one in everything if one.id in new}
    for one in everything:
        if str(one.parent.get("msg_id", "")) not in touched & whole and one.id not in new:
            continue
        request = str(one.parent.get("msg_id", ""))
        if request not in cells or one.channel != "iopub" or one.header.get("msg_type") not in _HEARD_BY_PAGES:
            continue
        try:
            content = session.deserialize(session.feed_identities(list(one.frames))[1])["content"]
        except (ValueError, TypeError):
            continue  # not signed with the kernel's key: none of its messages
        found.setdefault(request, []).append({"id": one.id, "type": one.header["msg_type"], "content": content})
    latest = next((one.id for one in reversed(kept.requests(waiting.run)) if one.id in cells), "")
    if latest and not any(_ends(one, latest) for one in waiting.messages()):
        whole -= {latest} - set(found)
        found.setdefault(latest, [])  # it may still run, and what follows belongs to its cell
    if not found:
        drop(kernel_id)  # nothing that a cell could show
    return [
        {"cell_id": cells[id], "msg_id": id, "whole": id in whole, "messages": messages}
        for id, messages in found.items()
    ]


def taken(kernel_id: str, page: str = "") -> None:
    """Forget a kernel's messages: a page that was loaded anew has them."""
    if not _left_open(kernel_id, page):
        drop(kernel_id)


def _left_open(kernel_id: str, page: str) -> bool:
    """Whether a page is the one that was left open while no server was there."""
    waiting = _waiting.get(kernel_id)
    return waiting is not None and page != "" and page in {waiting.page, waiting.shown_to}


def _id(one: Message) -> str:
    return one.id


def _id_of_frames(entry: tuple[str, Sequence[Any]]) -> str:
    one = kept.message("iopub", [bytes(frame) for frame in entry[1]])
    return one.id if one is not None else ""


def _ends(one: Message, request: str) -> bool:
    if one.parent.get("msg_id") != request or one.header.get("msg_type") != "status":
        return False
    return b'"idle"' in one.frames[-1]


class ReplayingConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel that remembers what it passed on, and begins with what was missed."""

    _delivered: Delivered | None = None

    def _run(self) -> RunFolder | None:
        provisioner = getattr(self.kernel_manager, "provisioner", None)
        return provisioner.run if isinstance(provisioner, TfgpuProvisioner) else None

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
        limit, self.limit_rate = self.limit_rate, False  # what is replayed comes at once, and is bounded
        connected = super().connect()
        _shown(self.kernel_id, waiting)
        if connected is not None:
            connected.add_done_callback(lambda _: setattr(self, "limit_rate", limit))
        return connected

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
        run = self._run()
        quoted: Any = b'"execute_request"' if isinstance(raw, bytes) else '"execute_request"'
        if run is None or quoted not in raw[:4096]:
            return
        try:
            if self.subprotocol == "v1.kernel.websocket.jupyter.org":
                _, parts = deserialize_msg_from_ws_v1(raw)
                header, metadata = json.loads(parts[0]), json.loads(parts[2])
            elif isinstance(raw, str):
                body = json.loads(raw)
                header, metadata = body["header"], body["metadata"]
            else:
                return
            if header["msg_type"] == "execute_request":
                cell = str(metadata.get("cellId", ""))
                kept.note_request(run, Request(header["msg_id"], header["session"], cell))
        except (ValueError, KeyError, IndexError, TypeError, TfgpuError) as error:
            self.log.debug("A request's cell is not known: %s", error)

    def _on_zmq_reply(self, stream: Any, msg_list: Any) -> None:
        """Pass a kernel's message on; note that a page has it."""
        super()._on_zmq_reply(stream, msg_list)
        if self._delivered is None or getattr(stream, "channel", "") != "iopub":
            return
        try:
            header = msg_list["header"] if isinstance(msg_list, dict) else json.loads(bytes(msg_list[0]))
            self._delivered.note(str(header["msg_id"]))
        except (ValueError, KeyError, IndexError, OSError):
            self.log.debug("A message has no id")


def use(settings: dict[str, Any]) -> None:
    """Have the server's pages connect this way, unless it was told of another."""
    if settings.get("kernel_websocket_connection_class") is ZMQChannelsWebsocketConnection:
        settings["kernel_websocket_connection_class"] = ReplayingConnection
