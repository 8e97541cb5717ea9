"""A command in a container on the caller's own terminal, as ``docker exec -it`` has it."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from typing import Any

import docker
import requests
from docker.errors import DockerException

from .translate import translated


def run(address: str, container: str, command: Sequence[str]) -> int:
    """Run a command on the caller's terminal until it ends; return its exit code. Blocks.

    :raises TfgpuError: where the engine doesn't run it.
    """
    try:
        return _run(address, container, command)
    except (DockerException, requests.RequestException) as error:
        raise translated(error, address) from error


def _run(address: str, container: str, command: Sequence[str]) -> int:
    with docker.APIClient(base_url=address, version="auto") as api:
        made = api.exec_create(
            container, list(command), stdin=True, tty=True, environment={"TERM": os.environ.get("TERM", "xterm")}
        )["Id"]
        answer = api.exec_start(made, tty=True, socket=True)
        stream = getattr(answer, "_sock", answer)  # docker-py wraps a unix socket, but not a TLS one
        before = termios.tcgetattr(sys.stdin)

        def resize(*_: object) -> None:
            size = os.get_terminal_size(sys.stdin.fileno())
            api.exec_resize(made, size.lines, size.columns)

        try:
            tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed meanwhile is the command's
            resize()
            signal.signal(signal.SIGWINCH, resize)
            _exchange(stream)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
            stream.close()
        return int(api.exec_inspect(made)["ExitCode"] or 0)


def _exchange(stream: Any) -> None:
    source = [sys.stdin.fileno(), stream]
    while True:
        for ready in select.select(source, [], [])[0]:
            if ready is stream:
                chunk = stream.recv(65536)
                if not chunk:
                    return
                while chunk:
                    chunk = chunk[os.write(sys.stdout.fileno(), chunk) :]
            else:
                keys = os.read(ready, 65536)
                if not keys:
                    source.remove(ready)
                else:
                    stream.sendall(keys)
