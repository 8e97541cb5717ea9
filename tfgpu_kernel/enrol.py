"""How jupyter_server's manager of many kernels gets one that it has not started, and lets go of one that goes on.

Some of what is set here has no public name there.
"""

from __future__ import annotations

from concurrent.futures import Future
from datetime import datetime, timezone
from typing import Any, Final
from weakref import WeakKeyDictionary

from jupyter_client.session import Session

_asking: Final[WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()
"""The streams on which kernels were asked whether they are idle; a busy one answers when it likes."""


def enter(multi: Any, kernel_id: str, manager: Any) -> None:
    """Do what jupyter_server does with a kernel that it has started."""
    manager.ready.set_result(None)
    manager.start_restarter()
    manager._connect_control_socket()
    # A page asks what the kernel is before it connects, and a busy kernel gives no answer.
    known: Future[dict[str, Any]] = Future()
    known.set_result({})
    manager._kernel_info_future = known
    multi._kernels[kernel_id] = manager
    multi._kernel_connections[kernel_id] = 0
    multi._kernel_ports[kernel_id] = manager.ports
    multi.start_watching_activity(kernel_id)
    manager.last_activity = datetime.now(timezone.utc)
    multi.add_restart_callback(kernel_id, lambda: multi._handle_kernel_died(kernel_id), "dead")
    if not multi._initialized_culler:
        multi.initialize_culler()
    _ask_whether_idle(manager)


def _ask_whether_idle(manager: Any) -> None:
    """Count the kernel as busy until it answers: a kernel that runs a cell doesn't."""
    manager.execution_state, manager.reason = "busy", ""
    stream = manager.connect_shell()
    session = Session(key=manager.session.key, username="tfgpu")

    def answered(_: object) -> None:
        manager.execution_state = "idle"
        stream.close()

    _asking[manager] = stream
    stream.on_recv(answered)
    session.send(stream, "kernel_info_request")


def leave(multi: Any, kernel_id: str, manager: Any) -> None:
    """Undo it, however far it came; the kernel isn't touched."""
    manager.stop_restarter()
    manager._close_control_socket()
    asking = _asking.pop(manager, None)
    if asking is not None:
        asking.close(linger=0)
    if kernel_id not in multi:
        return
    multi.stop_watching_activity(kernel_id)
    multi.stop_buffering(kernel_id)
    for known in (multi._kernel_connections, multi._kernel_ports, multi._kernels):
        known.pop(kernel_id, None)
