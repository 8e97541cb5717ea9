"""Pass connections from a unix socket in the run folder on to ports inside the container.

The server starts this by the engine's exec when the first page of a port is asked for; it goes into the background,
and ends when nobody has asked for a while. A connection begins with the port's number on a line; the answer is
``+`` when something listens there and ``-`` when nothing does, and after a ``+`` bytes go both ways.
"""

import asyncio
import os
import socket
import sys

IDLE_SECONDS = 600
LONGEST_LINE = 8
CHUNK = 65536


def main(path):  # type: ignore[no-untyped-def] # Python 3.6 runs this, mypy reads it
    """Listen, and go on in the background; the caller returns when connections are taken."""
    beside = "%s.%d" % (path, os.getpid())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(beside)
    os.chmod(beside, 0o600)
    listener.listen(64)
    os.rename(beside, path)
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_Forwarder(path).serve(listener))


class _Forwarder:
    def __init__(self, path):  # type: ignore[no-untyped-def]
        self._path = path
        self._open = 0
        self._used = 0

    async def serve(self, listener):  # type: ignore[no-untyped-def]
        inode = os.stat(self._path).st_ino
        server = await asyncio.start_unix_server(self._connected, sock=listener)
        idle = 0
        while idle < IDLE_SECONDS:
            used = self._used
            await asyncio.sleep(1)
            idle = 0 if self._open or used != self._used else idle + 1
        server.close()
        try:
            if os.stat(self._path).st_ino == inode:  # else another one has taken the name over
                os.unlink(self._path)
        except OSError:
            pass

    async def _connected(self, reader, writer):  # type: ignore[no-untyped-def]
        self._open += 1
        self._used += 1
        try:
            line = await reader.readuntil(b"\n")
            port = int(line[:LONGEST_LINE])
            inner = await self._reach(port)
            writer.write(b"-" if inner is None else b"+")
            if inner is not None:
                await asyncio.gather(_pump(reader, inner[1]), _pump(inner[0], writer))
        except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _reach(self, port):  # type: ignore[no-untyped-def]
        for host in ("127.0.0.1", "::1"):
            try:
                return await asyncio.open_connection(host, port)
            except (OSError, OverflowError):
                continue
        return None


async def _pump(reader, writer):  # type: ignore[no-untyped-def]
    try:
        while True:
            chunk = await reader.read(CHUNK)
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()  # the other direction ends with it


if __name__ == "__main__":
    main(sys.argv[1])
