"""Ports of a kernel's container, reached through a socket in its run folder: no port is published.

Whatever is in the folder is the kernel's work, so a connection is made to exactly the socket that was looked at:
never through a symlink, which could lead to a socket that the server may use and the kernel must not, such as
the engine's own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import Final

from .bootfile import PACKAGE
from .connection import CONTAINER_FOLDER
from .engine.base import Engine
from .errors import PortUnreachable
from .launch import Kernel
from .runfolder import BOOT_FILE

SOCKET: Final = "ports"
ANSWER_SECONDS: Final = 10.0
START_SECONDS: Final = 30.0
_PROGRAM: Final = (
    f"import sys; sys.path.insert(0, '{CONTAINER_FOLDER}/{BOOT_FILE}'); "
    f"from {PACKAGE}.forward import main; main('{CONTAINER_FOLDER}/{SOCKET}')"
)

_starting: dict[str, asyncio.Lock] = {}
_public: dict[str, str] = {}


def announce(base_url: str) -> None:
    """Let kernels know that a server passes ports on, at ``<base_url>tfgpu/kernels/<id>/proxy/<port>/``."""
    _public["base"] = base_url


def environment(kernel_id: str) -> dict[str, str]:
    """Return what tells programs in a kernel where a browser finds their ports; empty without such a server.

    ``TENSORBOARD_PROXY_URL`` is read by TensorBoard's notebook extension, which puts the port in.
    """
    base = _public.get("base")
    if base is None:
        return {}
    url = f"{base.rstrip('/')}/tfgpu/kernels/{kernel_id}/proxy/"
    return {"TENSORBOARD_PROXY_URL": f"{url}%PORT%/", "TFGPU_PROXY_URL": url}


async def connect(kernel: Kernel, engine: Engine, port: int) -> socket.socket:
    """Return a connection to a port of the kernel's container, as the container's own loopback has it.

    :raises PortUnreachable: when nothing listens there, or nobody passes connections on.
    """
    path = str(kernel.run.io / SOCKET)
    connection = _open(path, kernel.identity.host_uid)
    if connection is None:
        async with _starting.setdefault(path, asyncio.Lock()):
            connection = _open(path, kernel.identity.host_uid)
            if connection is None:
                await _start(kernel, engine)
                connection = _open(path, kernel.identity.host_uid)
        _starting.pop(path, None)
    if connection is None:
        raise PortUnreachable("The container of this kernel passes no connections on.", "restart the kernel.")
    try:
        return await asyncio.wait_for(_ask(connection, port), ANSWER_SECONDS)
    except (OSError, asyncio.TimeoutError) as error:
        connection.close()
        raise PortUnreachable(
            f"The container of this kernel gave no answer for port {port}.", "restart the kernel.", str(error)
        ) from error
    except BaseException:
        connection.close()
        raise


def _open(path: str, uid: int) -> socket.socket | None:
    """Connect to a socket of the kernel's user; None where there is none, or nobody listens."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        status = os.fstat(found)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != uid:
            raise OSError("not a socket of the kernel's")
        connection.setblocking(False)
        # By the descriptor: the name may mean something else by now.
        connection.connect(f"/proc/self/fd/{found}")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(found)
    return connection


async def _ask(connection: socket.socket, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, f"{port}\n".encode())
    if await loop.sock_recv(connection, 1) != b"+":
        raise PortUnreachable(
            f"Nothing listens on port {port} in the container of this kernel.",
            "start the program in the notebook and load this page again; it must listen on 127.0.0.1 or 0.0.0.0.",
        )
    return connection


async def _start(kernel: Kernel, engine: Engine) -> None:
    done = await engine.execute(kernel.container, [kernel.image.python, "-c", _PROGRAM], seconds=START_SECONDS)
    if done.code:
        raise PortUnreachable(
            "The program that passes connections on did not start in the kernel's container.",
            "restart the kernel; an image without Python's asyncio can't do this.",
            done.output.decode(errors="replace"),
        )
