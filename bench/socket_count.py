"""A door before the engine's socket that counts who knocks: every request is passed on, and noted."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# docker-py sends a request's head in one piece, and nothing more until the answer is there.
_REQUEST: Final = re.compile(rb"^(GET|HEAD|POST|PUT|DELETE) (\S+) HTTP/1\.1\r\n")
_PIECE: Final = 2**16


class Counted:
    """What was asked through a door."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    def note(self, piece: bytes) -> None:
        """Count a request that begins here, by what it asks for without its particulars."""
        match = _REQUEST.match(piece)
        if match:
            path = match[2].decode().partition("?")[0]
            path = re.sub(r"^/v[\d.]+", "", path)
            self.requests[f"{match[1].decode()} {re.sub(r'[0-9a-f]{12,}', 'ID', path)}"] += 1


@contextmanager
def counting(engine: Path, door: Path) -> Iterator[Counted]:
    """Serve an engine's socket at another place, and count; in a thread, so that it serves whatever the caller does."""
    counted = Counted()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_unix_connection(str(engine))
        with contextlib.suppress(asyncio.CancelledError):  # asyncio would print it
            await asyncio.gather(_pass_on(reader, outer, counted), _pass_on(inner, writer, None))
        for end in (writer, outer):
            end.close()

    server = asyncio.run_coroutine_threadsafe(asyncio.start_unix_server(serve, str(door)), loop).result()
    try:
        yield counted
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        door.unlink()


async def _end(server: asyncio.Server) -> None:
    """End what still passes on: the engine's stream of events never ends by itself."""
    server.close()
    while passing := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in passing:
            task.cancel()
        await asyncio.wait(passing, timeout=1)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: Counted | None) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            if counted is not None:
                counted.note(piece)
            writer.write(piece)
            await writer.drain()
        # A half-closed connection says that the input of an attached container ends.
        if writer.can_write_eof():
            writer.write_eof()
