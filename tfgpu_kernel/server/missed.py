"""What a page that was loaded anew is told, by request: its output, and to which cell it belongs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from jupyter_client.session import Session

from ..asked import Request
from ..kept import Message

HEARD_BY_PAGES: Final = frozenset({"stream", "display_data", "execute_result", "error", "update_display_data",
                                   "clear_output", "status", "execute_input"})  # fmt: skip


def by_request(
    everything: Sequence[Message], new: Collection[str], requests: Sequence[Request], key: bytes
) -> list[dict[str, Any]]:
    """Return each request that printed what no page has got, or isn't known to have ended, oldest first.

    It takes a good part of a second for 8 MiB: in a thread.

    :param everything: all messages that are known, in the order of sending.
    :param new: ids of those that no page has got.
    :return: ``{"cell_id", "code", "msg_id", "ended", "whole", "messages": [{"id", "type", "content"}]}`` for each.
        ``whole`` says that the messages are all of the request's, from its beginning on; a page that wasn't saved
        lacks some that the page before it had got.
    """
    session = Session(key=key)
    whole = {one.request for one in everything if one.header.get("msg_type") == "execute_input"}
    unfinished = {one.id for one in requests if not one.ended}
    touched = unfinished | {one.request for one in everything if one.id in new}
    cells = {one.id for one in requests if one.cell}
    found: dict[str, list[dict[str, Any]]] = {}
    for one in everything:
        if one.request not in cells or one.channel != "iopub" or one.header.get("msg_type") not in HEARD_BY_PAGES:
            continue
        if one.id not in new and one.request not in touched & whole:
            continue
        try:
            content = session.deserialize(session.feed_identities(list(one.frames))[1])["content"]
        except (ValueError, TypeError):
            continue  # not signed with the kernel's key: none of its messages
        found.setdefault(one.request, []).append({"id": one.id, "type": one.header["msg_type"], "content": content})
    return [
        {
            "cell_id": one.cell,
            "code": one.code,
            "msg_id": one.id,
            "ended": one.ended,
            "whole": one.id in whole and one.id in found,
            "messages": found.get(one.id, []),
        }
        for one in requests
        if one.id in found or (one.cell and not one.ended)
    ]


def request_of_gap(new: Sequence[Message], requests: Sequence[Request]) -> Mapping[str, Any]:
    """Return the header of the request that a notice of lost output appears under; empty where there is none.

    It is the first that a cell made of those whose output follows. Where nothing follows, the disk was full until the
    end, and it is the first that isn't known to have ended, or else the latest.
    """
    cells = {one.id for one in requests}
    for message in new:
        if message.request in cells:
            return message.parent
    for request in (*(one for one in requests if not one.ended), *reversed(requests)):
        return {"msg_id": request.id, "session": request.page, "msg_type": "execute_request"}
    return new[0].parent if new else {}
