"""A bridge of its own for a test's engine, so that its containers reach the network as those of a machine do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator


@contextlib.contextmanager
def bridged() -> Iterator[str]:
    """Make a bridge with a private subnet behind the machine's address; it goes with the block. Needs root."""
    number = os.getpid() % 200 + 20
    name, subnet = f"tfgpu-t{number}", f"10.198.{number}.0/24"
    rule = ["-s", subnet, "!", "-o", name, "-j", "MASQUERADE"]
    _run("ip", "link", "add", name, "type", "bridge")
    try:
        _run("ip", "address", "add", f"10.198.{number}.1/24", "dev", name)
        _run("ip", "link", "set", name, "up")
        _run("iptables", "-t", "nat", "-A", "POSTROUTING", *rule)
        try:
            yield name
        finally:
            _run("iptables", "-t", "nat", "-D", "POSTROUTING", *rule)
    finally:
        _run("ip", "link", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
