"""Wait as a finished kernel, with modules imported ahead, until a notebook wants one.

The server leaves an order beside the connection file; then the kernel, once it is complete, listens on one more
socket. Whoever connects there first and claims it gets it; the others are refused. One line of JSON each way:

1. The server that made it connects and *holds* it. When that connection ends unclaimed, so does the kernel: there are
   no orphans. It is told what the kernel weighs.
2. A claim says environment, folder and key. The kernel becomes what was claimed and answers ``yours``.
3. The claimer takes the run folder over and says ``go``, and which of the GPUs that the container sees are the
   kernel's, where they are not all. When it is gone instead, the kernel ends: half a claim leaves
   nothing behind.
"""

import gc
import json
import os
import random
import selectors
import socket
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, cast

from . import here, lasting, moved, narrow, rivals, variables
from .codes import CLAIM_BROKEN, NOT_HELD
from .stash import Stash, Unit
from .variables import KERAS_FILE, MATPLOTLIB_FILE

ORDER_FILE = "warm.json"
SOCKET = "c"  # not longer than the kernel's own sockets' names: paths of sockets are short
COLD_FILE = "cold"  # what importing ahead must heed next time; lines of one of these words and a name
LATE = "late"  # a variable or file that a cell made too late for what was imported ahead
MISTAKEN = "mistaken"  # a variable that was set while importing ahead, and was to have another value or none
CAME = "came"  # a package that came after what looks for it
HELD_SECONDS = 60.0  # how long a kernel waits to be held
CLAIM_SECONDS = 30.0
# libzmq tries a lost connection again after 100 to 200 ms; what is published before reaches nobody.
_RECONNECT_SECONDS = 0.21
_RECONNECT_LIMIT = 3.0
_SUBSCRIBE_SECONDS = 0.02  # from a connection to its subscription


def arm(connection_file: str, keeper: Any) -> None:
    """Let the kernel wait when it is complete, if the server ordered one that waits."""
    folder = os.path.dirname(connection_file)
    try:
        with open(os.path.join(folder, ORDER_FILE)) as file:
            order = json.load(file)
    except OSError:
        return
    from ipykernel.kernelapp import IPKernelApp

    original = IPKernelApp.start
    # Ours until the claim: versions of ipykernel that give it to the notebook do so when the kernel is made.
    os.environ["JPY_SESSION_NAME"] = "none"

    def start(app: Any) -> None:
        IPKernelApp.start = original  # type: ignore[method-assign]
        Waiting(app, folder, keeper).begin(order)
        original(app)

    IPKernelApp.start = start  # type: ignore[method-assign]


class Waiting:
    """A complete kernel that nobody has claimed."""

    def __init__(self, app: Any, folder: str, keeper: Any) -> None:
        """Take ipykernel's application, the folder with the sockets, and who counts iopub's listeners (or None)."""
        self._keeper = keeper
        self._app = app
        self._folder = folder
        self._stash = Stash(self._shown, self._outdone)
        self._preset: Dict[str, str] = {}
        self._at_preload: Dict[str, str] = {}
        self._keras = ""
        self._putenv: Optional[Callable[[Any, Any], None]] = None

    def begin(self, order: Dict[str, Any]) -> None:
        """Import ahead, then wait in a thread; the main thread goes on to serve messages."""
        state = random.getstate()
        self._preset = order.get("preset", {})
        os.environ.update(self._preset)
        self._at_preload = dict(os.environ)
        folder = os.getcwd()
        with tempfile.TemporaryDirectory() as empty:
            # Whose folder the kernel will be in is not known: no file there may act (matplotlibrc), nor any module.
            os.chdir(empty)
            try:
                self._stash.preload(order.get("preload", ()))
            finally:
                os.chdir(folder)
        for unit in self._stash.units:
            self._at_preload.update(unit.environ)
        for name in self._preset:
            os.environ.pop(name, None)
        self._keras = _keras_settings()
        random.setstate(state)
        gc.collect()
        lasting.note(self._app.shell.user_ns)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self._folder, SOCKET))
        listener.listen(16)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        holder: Optional[socket.socket] = None
        waits_until = time.monotonic() + HELD_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while True:
                timeout = None if holder is not None else max(0, waits_until - time.monotonic())
                ready = selector.select(timeout)
                if not ready and holder is None:
                    os._exit(NOT_HELD)
                for key, _ in ready:
                    if key.fileobj is listener:
                        connection = listener.accept()[0]
                        connection.settimeout(CLAIM_SECONDS)
                        selector.register(connection, selectors.EVENT_READ)
                        continue
                    connection = cast(socket.socket, key.fileobj)
                    try:
                        request = receive(connection)
                    except (OSError, ValueError):
                        request = None
                    if request is None:
                        if connection is holder:
                            os._exit(NOT_HELD)
                        selector.unregister(connection)
                        connection.close()
                    elif "claim" in request:
                        claim = request["claim"]
                        os.unlink(os.path.join(self._folder, SOCKET))
                        for other in list(selector.get_map().values()):
                            if other.fileobj is not connection:
                                cast(socket.socket, other.fileobj).close()
                        self._app.io_loop.add_callback(self._become, connection, claim)
                        return
                    else:
                        holder = connection
                        preloaded = [unit.name for unit in self._stash.units]
                        lacking = sorted(set().union(*(unit.lacking for unit in self._stash.units)))
                        answer = {"memory": memory(), "weight": weight(), "preloaded": preloaded, "lacking": lacking}
                        send(connection, answer)

    def _become(self, connection: socket.socket, claim: Dict[str, Any]) -> None:
        """Become the kernel that was claimed; on the main thread, so that no message comes between."""
        try:
            for name in claim["unset"]:
                os.environ.pop(name, None)
            os.environ.pop("JPY_SESSION_NAME", None)
            os.environ.update(claim["env"])
            moved.move(claim["cwd"], self._stash.module)
            self._refresh_shell()
            here.follow_up()
            if claim["key"] is not None:
                self._app.session.key = claim["key"].encode()
            os.unlink(os.path.join(self._folder, ORDER_FILE))
            send(connection, {"yours": True})
            last = receive(connection)
            if last is None:
                raise OSError("the claimer is gone")
            if last.get("gpus"):
                narrow.narrow(last["gpus"])
            self._watch()
        except Exception as error:
            os.write(2, ("tfgpu: a claim broke off: %s\n" % error).encode())
            os._exit(CLAIM_BROKEN)
        connection.close()
        if claim["key"] is not None:
            self._await_listeners()

    def _refresh_shell(self) -> None:
        """Correct what IPython noted when it began."""
        shell = self._app.shell
        shell.starting_dir = os.getcwd()
        visited = shell.user_ns.get("_dh")
        if visited:
            visited[:] = [type(visited[0])(os.getcwd())]
        if "__session__" in shell.user_ns:
            if os.environ.get("JPY_SESSION_NAME"):
                shell.user_ns["__session__"] = os.environ["JPY_SESSION_NAME"]
            else:
                del shell.user_ns["__session__"]

    def _await_listeners(self) -> None:
        """Let nothing run before clients that kept their channels listen again.

        Their connections come back one by one; a cell that arrives before its client listens would print to nobody.
        """
        began = time.monotonic()
        while time.monotonic() < began + _RECONNECT_LIMIT:
            time.sleep(0.01)
            listened = self._keeper is None or self._keeper.listeners > 0
            if listened and time.monotonic() >= began + _RECONNECT_SECONDS:
                break
        time.sleep(_SUBSCRIBE_SECONDS)

    # -- variables that come too late -----------------------------------------------------------------

    def _watch(self) -> None:
        """Notice variables that a cell sets before it imports what is imported already."""
        if not self._stash.units:
            return
        owner = narrow.putenv_owner()
        self._putenv = original = owner.putenv

        def putenv(key: Any, value: Any) -> None:
            original(key, value)
            self._noticed(os.fsdecode(key), os.fsdecode(value))

        owner.putenv = putenv

    def _readers(self, name: str) -> List[Unit]:
        """Return what was imported ahead, and may have read a variable (or file) then."""
        units = self._stash.units
        plots = [unit for unit in units if unit.has("matplotlib")]
        if variables.matplotlibs(name):
            return plots
        return [unit for unit in units if unit not in plots] or units  # NumPy may have come with Matplotlib

    def _noticed(self, name: str, value: str) -> None:
        if self._putenv and variables.matters_at_import(name) and self._at_preload.get(name) != value:
            # What was imported before is as it would be in a cold kernel.
            hidden = [unit.name for unit in self._readers(name) if not unit.shown]
            if hidden:
                self._tell_late([name], hidden)

    def _shown(self, unit: Unit) -> None:
        """Look, at the user's first import, at what was foreseen and did not come, and what came unforeseen."""
        if self._putenv is None:
            return
        late = [KERAS_FILE] if _keras_settings() != self._keras else []
        if os.path.isfile(MATPLOTLIB_FILE):
            late.append(MATPLOTLIB_FILE)
        late = [name for name in late if unit in self._readers(name)]
        mistaken = [name for name, text in self._preset.items() if os.environ.get(name) != text]
        mistaken = [name for name in mistaken if unit in self._readers(name)]
        came = self._stash.appeared(unit)
        if mistaken:
            text = "%s was loaded ahead with %s, which a saved cell sets and none has set yet. Restart the kernel: " \
                "it is then loaded without that." % (unit.name, ", ".join(mistaken))  # fmt: skip
            self._tell(MISTAKEN, mistaken, text)
        if came:
            text = "%s doesn't see %s, because it was loaded ahead. Restart the kernel: this notebook then starts " \
                "without that, and it does." % (unit.name, ", ".join(came))  # fmt: skip
            self._tell(CAME, came, text)
        if late:
            self._tell_late(late, [unit.name])
        if all(other.shown for other in self._stash.units):
            self._unwatch()

    def _outdone(self, packages: Dict[str, str]) -> None:
        """Tell that what was imported ahead has the image's packages, where cells find others."""
        loaded = " and ".join(unit.name for unit in self._stash.units)
        folders = ", ".join(sorted({rivals.folder(file) for file in packages.values()}))
        text = "%s was loaded ahead with the image's %s. Restart the kernel: this notebook then starts without that, " \
            "and has what sys.path finds in %s." % (loaded, ", ".join(packages), folders)  # fmt: skip
        self._tell(LATE, ["sys.path"], text)

    def _unwatch(self) -> None:
        if self._putenv is not None:
            narrow.putenv_owner().putenv, self._putenv = self._putenv, None

    def _tell_late(self, names: Sequence[str], modules: Sequence[str]) -> None:
        """Tell it once: the next start is a cold one anyhow."""
        text = "%s has no effect here, because %s was loaded ahead. Restart the kernel: this notebook then starts " \
            "without that, and it has effect." % (", ".join(names), " and ".join(modules))  # fmt: skip
        self._tell(LATE, names, text)
        self._note(MISTAKEN, [name for name in names if name in self._preset])
        self._unwatch()

    def _tell(self, word: str, names: Sequence[str], text: str) -> None:
        sys.stderr.write("tfgpu: %s\n" % text)
        self._note(word, names)

    def _note(self, word: str, names: Sequence[str]) -> None:
        try:
            with open(os.path.join(self._folder, COLD_FILE), "a") as file:
                file.write("".join("%s %s\n" % (word, name) for name in names))
        except OSError:
            pass  # what was told has been read all the same


def _keras_settings() -> str:
    """Return Keras' settings file, which it writes and reads when it is imported; empty where there is none."""
    try:
        with open(os.path.expanduser("~/.keras/keras.json")) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def send(connection: socket.socket, message: Dict[str, Any]) -> None:
    """Send one line of JSON."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def receive(connection: socket.socket) -> Any:
    """Read one line of JSON; None at the end of the connection."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = connection.recv(65536)
        if not chunk:
            return None
        line += chunk
    return json.loads(line.decode())


def weight() -> Optional[int]:
    """Return the container's share of the processors as cgroup v2 has it (100 is the usual one); None under v1."""
    try:
        with open("/sys/fs/cgroup/cpu.weight") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def memory() -> int:
    """Return what the process holds of main memory, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
