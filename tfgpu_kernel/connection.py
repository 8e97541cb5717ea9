"""How server and kernel reach each other: five unix sockets in a folder that both see.

The server knows the folder by its path on the host, the kernel by :data:`CONTAINER_FOLDER`; the sockets
and the key are the same. Nothing listens on the network, so network mode ``none`` makes no difference,
and there are no ports to race for. (Engines that are not local will get TCP on 127.0.0.1 with Curve
here, as a second plan with the same two views.)
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Final

from jupyter_client.connect import KernelConnectionInfo

CONTAINER_FOLDER: Final = "/tfgpu/run"
"""Where the kernel sees the folder with the sockets."""
CONNECTION_FILE: Final = "connection.json"
SOCKET_PREFIX: Final = "k"
MAX_SOCKET_PATH: Final = 107
"""Bytes of a unix socket's path: sun_path has 108 with the closing NUL (unix(7))."""

# jupyter_client names an ipc socket "{ip}-{port}": the ip is a path prefix, the ports are small numbers.
_PORTS: Final = {
    "shell_port": 1,
    "iopub_port": 2,
    "stdin_port": 3,
    "control_port": 4,
    "hb_port": 5,
}


@dataclass(frozen=True)
class Connection:
    """Sockets and key of one kernel, seen from both sides."""

    folder: str
    """The folder with the sockets, as the host knows it."""
    key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    """HMAC key of the messages (256 bits)."""

    @property
    def sockets(self) -> tuple[str, ...]:
        """The five sockets' paths on the host."""
        return tuple(f"{self._prefix(self.folder)}-{port}" for port in _PORTS.values())

    def host_info(self) -> KernelConnectionInfo:
        """Return the connection as jupyter_client's manager takes it: the key as bytes."""
        return {**self._info(self.folder), "key": self.key.encode()}  # type: ignore[typeddict-item]

    def container_file(self) -> str:
        """Return the text of the connection file that the kernel reads."""
        return json.dumps({**self._info(CONTAINER_FOLDER), "key": self.key}, indent=1)

    def _info(self, folder: str) -> dict[str, object]:
        return {
            "transport": "ipc",
            "ip": self._prefix(folder),
            "signature_scheme": "hmac-sha256",
            **_PORTS,
        }

    @staticmethod
    def _prefix(folder: str) -> str:
        return f"{folder}/{SOCKET_PREFIX}"


def fits(folder: str) -> bool:
    """Whether sockets in this folder have paths that the system takes."""
    return all(len(path.encode()) <= MAX_SOCKET_PATH for path in Connection(folder, "").sockets)
