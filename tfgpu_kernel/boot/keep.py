"""Keep what the kernel prints while no page can get it, for a server that takes the kernel up.

A server always listens to iopub, so when the last subscriber has gone, the server has. From then on each message
is also appended to a file beside the sockets, led by the last ones that were sent before: those that were still on
their way, and those that the server held for a page that had left; they wait in memory, where a page that is there
costs no writing. A server that takes the kernel up knows which message reached a page last, and shows what follows.

The file is two files of bounded size; when the second is full, it replaces the first, and a mark says so. Where a
message is missing amid the others, a record of its own says so: it was too large, or the disk was full.
"""

import os
import struct
import threading
import time
from collections import deque

FILE = "kept"
OLD_FILE = "kept.old"
CUT_FILE = "kept.cut"
FILE_BYTES = 4 * 2 ** 20
RECENT_BYTES = 2 * FILE_BYTES
BATCH_BYTES = 2 ** 16
SHORT_BYTES = 1024  # what a reply is taken to have before it is serialized
GRACE_SECONDS = 2.0  # a new subscriber is connected a little before it is subscribed

IOPUB = 0
SHELL = 1
LOST = 2  # no message, but the place of some that are missing; an empty file is one, too
HEARD = 0  # somebody listened when it was sent
UNHEARD = 1
MARK = struct.pack(">IBBd", 0, LOST, UNHEARD, 0)


class Keeper:
    """Decides what is kept, and writes it; called from the threads that send, and from the monitor's."""

    def __init__(self, folder, clock=time.time):  # type: ignore[no-untyped-def]
        """Keep into a folder; nobody listens yet, and before the first listener nothing is kept."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._recent = deque()  # type: ignore[var-annotated]
        self._recent_bytes = 0
        self._forgotten = False  # of the recent ones, since the last were written
        self._lost = False  # something that was to be written, since the last that was
        self._listeners = 0
        self._had_one = False
        self._until = 0.0

    @property
    def listeners(self):  # type: ignore[no-untyped-def]
        """How many listen now."""
        return self._listeners

    def arrived(self):  # type: ignore[no-untyped-def]
        """Note a subscriber's connection; a server, which makes several, hears all a little after the last."""
        with self._lock:
            now = self._clock()
            if self._had_one and (not self._listeners or now < self._until):
                self._until = now + GRACE_SECONDS
            self._listeners += 1
            self._had_one = True

    def left(self):  # type: ignore[no-untyped-def]
        """Note the end of a subscriber's connection; with the last one keeping begins."""
        with self._lock:
            self._listeners = max(0, self._listeners - 1)
            if not self._listeners:
                self._write([MARK] if self._forgotten else [])
                self._write(record for _, record in self._recent)
                self._recent.clear()
                self._recent_bytes = 0
                self._forgotten = False

    def sent(self, channel, frames):  # type: ignore[no-untyped-def]
        """Note a message that was sent: its frames, or what makes them, where that is only worth doing to keep it."""
        if os.getpid() != self._pid:
            return  # a forked child: its parent sends for it
        with self._lock:
            now = self._clock()
            alone = self._had_one and not self._listeners
            heard = UNHEARD if alone else HEARD
            if alone or now < self._until:
                self._write([_record(channel, heard, now, frames() if callable(frames) else frames)])
            elif callable(frames):
                self._remember(SHORT_BYTES, lambda: _record(channel, heard, now, frames()))
            else:
                record = _record(channel, heard, now, frames)
                self._remember(len(record), record)

    def _remember(self, size, record):  # type: ignore[no-untyped-def]
        """Hold a record in memory, and forget the oldest that find no room beside it."""
        self._recent.append((size, record))
        self._recent_bytes += size
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= self._recent.popleft()[0]
            self._forgotten = True

    def _write(self, records):  # type: ignore[no-untyped-def]
        """Append records, or what makes them, some at a time."""
        batch = b""
        for record in records:
            batch += record() if callable(record) else record
            if len(batch) >= BATCH_BYTES:
                self._append(batch)
                batch = b""
        if batch:
            self._append(batch)

    def _append(self, batch):  # type: ignore[no-untyped-def]
        """Append whole records; a full disk loses them, of which a mark is left, and hinders nothing."""
        path = os.path.join(self._folder, FILE)
        try:
            with open(path, "ab", buffering=0) as file:
                if _fitted(file, MARK + batch if self._lost else batch):
                    self._lost = False
                elif not self._lost:
                    self._lost = True
                    _fitted(file, MARK)
                full = file.seek(0, os.SEEK_END) > FILE_BYTES
            if full:
                old = os.path.join(self._folder, OLD_FILE)
                if os.path.exists(old):
                    open(os.path.join(self._folder, CUT_FILE), "ab").close()
                os.replace(path, old)
        except OSError:
            self._lost = True


def _record(channel, heard, when, frames):  # type: ignore[no-untyped-def]
    """Return a message as it lies in the file, or the mark where it is too large for that."""
    parts = [b""]
    for frame in map(bytes, frames):
        parts += (struct.pack(">I", len(frame)), frame)
    size = sum(map(len, parts))
    if size > FILE_BYTES:
        return MARK
    parts[0] = struct.pack(">IBBd", size, channel, heard, when)
    return b"".join(parts)


def _fitted(file, data):  # type: ignore[no-untyped-def]
    """Append all of the data, or nothing: behind half a record nothing could be read. Return which."""
    whole = file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(whole)
        return False
    return True


def install(folder):  # type: ignore[no-untyped-def]
    """Have all kernels of this process keep what nobody hears; call before ipykernel starts.

    Return the keeper, or None where this ipykernel is built otherwise: then nothing is kept.
    """
    try:
        import zmq
        from ipykernel.iostream import IOPubThread
        from jupyter_client.session import Session

        start, really_send, send = IOPubThread.start, IOPubThread._really_send, Session.send
        events = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
    except (ImportError, AttributeError):
        return None
    keeper = Keeper(folder)

    def started(self):  # type: ignore[no-untyped-def]
        try:
            monitor = self.socket.get_monitor_socket(events)
        except (AttributeError, zmq.ZMQError):
            pass
        else:
            watch = threading.Thread(target=_watch, args=(monitor, keeper), name="tfgpu-keep")
            watch.daemon = True
            watch.start()
        return start(self)

    def sent(self, msg, *args, **kwargs):  # type: ignore[no-untyped-def]
        done = really_send(self, msg, *args, **kwargs)
        keeper.sent(IOPUB, msg)
        return done

    def replied(self, stream, msg_or_type, *args, **kwargs):  # type: ignore[no-untyped-def]
        msg = send(self, stream, msg_or_type, *args, **kwargs)
        if msg_or_type == "execute_reply" and isinstance(msg, dict):
            content = msg["content"]
            short = content["status"] == "ok" and not content.get("payload") and not content.get("user_expressions")
            # One comes with each cell: what is short is serialized once more only when it is kept.
            keeper.sent(SHELL, (lambda: self.serialize(msg)) if short else self.serialize(msg))
        return msg

    for owner, name, function in (
        (IOPubThread, "start", started),
        (IOPubThread, "_really_send", sent),
        (Session, "send", replied),
    ):
        setattr(owner, name, function)
    return keeper


def _watch(monitor, keeper):  # type: ignore[no-untyped-def]
    """Count iopub's subscribers."""
    import zmq

    event = 0
    try:
        while event != zmq.EVENT_MONITOR_STOPPED:  # which comes when the kernel ends
            event = struct.unpack("=H", monitor.recv_multipart()[0][:2])[0]
            if event == zmq.EVENT_ACCEPTED:
                keeper.arrived()
            elif event == zmq.EVENT_DISCONNECTED:
                keeper.left()
    except zmq.ZMQError:
        pass
    monitor.close(linger=0)
