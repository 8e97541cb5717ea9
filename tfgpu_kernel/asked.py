"""Which cells asked a kernel for what, and which of these requests aren't known to have ended.

A page sends all requests of "Run All" at once, and a page that is loaded anew knows none of them: the next server reads
here to which cells the output belongs that still comes. It lies in the server's own part of the run folder.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from .runfolder import RunFolder

FILE: Final = "cells.json"
ENDED_KEPT: Final = 50
"""So many requests that have ended stay known: output of theirs may not have reached a page."""


@dataclass(frozen=True)
class Request:
    """One request to run a cell."""

    id: str
    page: str
    cell: str
    """Id of the notebook's cell; empty where the page named none. Below nbformat 4.5 each page makes up new ones."""
    code: str = ""
    """The fingerprint of the code that was sent."""
    ended: bool = False


def fingerprint(code: str) -> str:
    """Return what tells one cell's code from another's; the lab extension computes the same of its cells."""
    data = code.encode(errors="replace")
    return f"{zlib.crc32(data):08x}-{len(data)}"


class Asked:
    """The requests to one kernel; written down at each change."""

    def __init__(self, run: RunFolder, container: str) -> None:
        """Go on with what is written down, unless that is of a kernel before a restart: its requests are void."""
        self.container = container
        self._run = run
        self._requests = {one.id: one for one in _read(run, container)}

    @property
    def requests(self) -> Sequence[Request]:
        """The latest requests, oldest first; all that aren't known to have ended are among them."""
        return tuple(self._requests.values())

    @property
    def unfinished(self) -> Sequence[Request]:
        """Those that aren't known to have ended, oldest first."""
        return tuple(one for one in self._requests.values() if not one.ended)

    def note(self, request: Request) -> None:
        """Remember a request.

        :raises NoSpace: when the disk is full.
        """
        self._requests.pop(request.id, None)
        self._requests[request.id] = request
        # Not at a request's end: what is read of a gap may end a hundred, each of which a page is still to be shown.
        ended = [one.id for one in self._requests.values() if one.ended]
        for old in ended[:-ENDED_KEPT]:
            del self._requests[old]
        self._write()

    def end(self, request_id: str) -> None:
        """Note that a request has ended, and with it those that its page made before: a kernel takes them in turn.

        :raises NoSpace: when the disk is full.
        """
        last = self._requests.get(request_id)
        if last is None or last.ended:
            return
        for one in self.unfinished:
            if one.page == last.page:
                self._requests[one.id] = replace(one, ended=True)
            if one.id == request_id:
                break
        self._write()

    def _write(self) -> None:
        written = {"container": self.container, "requests": [asdict(one) for one in self._requests.values()]}
        self._run.keep(FILE, json.dumps(written).encode())


def _read(run: RunFolder, container: str) -> list[Request]:
    try:
        written = json.loads((run.path / FILE).read_bytes())
        return [Request(**one) for one in written["requests"]] if written["container"] == container else []
    except (OSError, ValueError, TypeError, KeyError):
        return []
