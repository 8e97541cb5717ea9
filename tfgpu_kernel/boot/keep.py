"""Keep what the kernel prints while no server is there to hear it.

A server always listens to iopub, so when the last subscriber has gone, the server has. From then on each message
is also appended to a file beside the sockets, led by the last ones that were sent before: some of those were still on
their way. A server that takes the kernel up knows which message reached a page last, and shows what follows.

The file is two files of bounded size; when the second is full, it replaces the first, and a mark says so.
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
RECENT_BYTES = 2 ** 20
SHORT_BYTES = 1024  # what a reply is taken to have before it is serialized
GRACE_SECONDS = 2.0  # a new subscriber is connected a little before it is subscribed

IOPUB = 0
SHELL = 1
HEARD = 0  # somebody listened when it was sent
UNHEARD = 1


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
        self._listeners = 0
        self._had_one = False
        self._until = 0.0

    @property
    def listeners(self):  # type: ignore[no-untyped-def]
        """How many listen now."""
        return self._listeners

    def arrived(self):  # type: ignore[no-untyped-def]
        """Note a subscriber's connection."""
        with self._lock:
            self._listeners += 1
            self._until = self._clock() + GRACE_SECONDS if self._had_one else 0.0
            self._had_one = True

    def left(self):  # type: ignore[no-untyped-def]
        """Note the end of a subscriber's connection; with the last one keeping begins."""
        with self._lock:
            self._listeners = max(0, self._listeners - 1)
            if not self._listeners:
                self._write(record for _, record in self._recent)
                self._forget_recent()

    def sent(self, channel, frames):  # type: ignore[no-untyped-def]
        """Note a message that was sent: its frames, or what makes them, where that is only worth doing to keep it."""
        if os.getpid() != self._pid:
            return  # a forked child: its parent sends for it
        if callable(frames):
            size = SHORT_BYTES
        else:
            frames = [bytes(frame) for frame in frames]
            size = sum(len(frame) for frame in frames)
        with self._lock:
            alone = self._had_one and not self._listeners
            record = (channel, UNHEARD if alone else HEARD, self._clock(), frames)
            if alone or self._clock() < self._until:
                self._write([record])
                return
            if size > RECENT_BYTES:
                return
            self._recent.append((size, record))
            self._recent_bytes += size
            while self._recent_bytes > RECENT_BYTES:
                self._recent_bytes -= self._recent.popleft()[0]

    def _forget_recent(self):  # type: ignore[no-untyped-def]
        self._recent.clear()
        self._recent_bytes = 0

    def _write(self, records):  # type: ignore[no-untyped-def]
        """Append records; a full disk loses them, and hinders nothing."""
        path = os.path.join(self._folder, FILE)
        try:
            with open(path, "ab") as file:
                for channel, heard, when, frames in records:
                    frames = frames() if callable(frames) else frames
                    body = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
                    if len(body) > FILE_BYTES:
                        continue
                    file.write(struct.pack(">IBBd", len(body), channel, heard, when) + body)
                full = file.tell() > FILE_BYTES
            if full:
                old = os.path.join(self._folder, OLD_FILE)
                if os.path.exists(old):
                    open(os.path.join(self._folder, CUT_FILE), "ab").close()
                os.replace(path, old)
        except OSError:
            pass


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
