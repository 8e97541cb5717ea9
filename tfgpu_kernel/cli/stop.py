"""End a kernel: by its server where one lives, else with TERM, and KILL ten seconds later."""

from __future__ import annotations

import argparse
import asyncio

import requests
from jupyter_server.serverapp import list_running_servers

from ..engine import find
from ..provisioner import STOP_SECONDS
from .kernels import one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")


async def run(arguments: argparse.Namespace) -> int:
    """Stop the kernel; one that no server owns is removed with its folder as well."""
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        if not await asyncio.to_thread(ended_by_server, kernel.kernel_id):
            await engine.stop(kernel.container.id, int(STOP_SECONDS))
            if not kernel.owned:
                await engine.remove(kernel.container.id)
                kernel.run.remove()
    finally:
        await engine.close()
    print(f"Stopped {kernel.kernel_id or kernel.container.name}")
    return 0


def ended_by_server(kernel_id: str) -> bool:
    """Ask this user's running servers to shut the kernel down; return whether one did.

    A server takes an end that it didn't ask for as a death, and starts the kernel anew.
    """
    if not kernel_id:
        return False
    for server in list_running_servers():
        try:
            answer = requests.delete(
                f"{server['url']}api/kernels/{kernel_id}",
                headers={"Authorization": f"token {server['token']}"},
                timeout=2 * STOP_SECONDS,
            )
        except (requests.RequestException, KeyError):
            continue  # this one is just ending, or listens at a unix socket
        if answer.status_code == requests.codes.no_content:
            return True
    return False
