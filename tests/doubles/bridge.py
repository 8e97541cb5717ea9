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
    rules = [
        ["-t", "nat", "{}", "POSTROUTING", "-s", subnet, "!", "-o", name, "-j", "MASQUERADE"],
        ["{}", "FORWARD", "-i", name, "-j", "ACCEPT"],  # Docker's own engine lets nothing through by default
        ["{}", "FORWARD", "-o", name, "-j", "ACCEPT"],
    ]
    with contextlib.ExitStack() as undo:
        _run("ip", "link", "add", name, "type", "bridge")
        undo.callback(_run, "ip", "link", "delete", name)
        _run("ip", "address", "add", f"10.198.{number}.1/24", "dev", name)
        _run("ip", "link", "set", name, "up")
        for rule in rules:
            _run("iptables", *(word.format("-A") for word in rule))
            undo.callback(_run, "iptables", *(word.format("-D") for word in rule))
        yield name


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
