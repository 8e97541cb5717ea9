"""End a kernel: by its server where one lives, else with TERM, and KILL ten seconds later."""

from __future__ import annotations

import argparse
import asyncio

import requests
from jupyter_server.serverapp import list_running_servers

from .. import handover
from ..engine import find
from ..errors import ServerNotFound
from ..provisioner import STOP_SECONDS
from . import servers
from .kernels import Known, one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", help="the beginning of its id, see ps")


async def run(arguments: argparse.Namespace) -> int:
    """Stop the kernel; one that no server owns is removed with its folder as well.

    :raises ServerNotFound: where a server owns it that doesn't end it.
    """
    engine = find.engine()
    try:
        kernel = await one(engine, arguments.kernel)
        if not await asyncio.to_thread(ended_by_server, kernel):
            await engine.stop(kernel.container.id, int(STOP_SECONDS))
            if not kernel.owned:
                await engine.remove(kernel.container.id)
                kernel.run.remove()
    finally:
        await engine.close()
    print(f"Stopped {kernel.kernel_id or kernel.container.name}")
    return 0


def ended_by_server(kernel: Known) -> bool:
    """Ask this user's running servers to shut the kernel down; return whether one did.

    :raises ServerNotFound: where none did, and it belongs to one: that would take the end of its container as a death,
        and start the kernel anew.
    """
    if not kernel.kernel_id:
        return False
    refused = []
    for server in list_running_servers():
        try:
            answer = servers.ask(server, "DELETE", f"api/kernels/{kernel.kernel_id}", 2 * STOP_SECONDS)
        except requests.RequestException as error:
            refused.append(f"{server['url']}: {servers.silence(error)}")
            continue
        if answer.status_code == requests.codes.no_content:
            return True
        if answer.status_code != requests.codes.not_found:
            refused.append(f"{server['url']}: {servers.shut(server, answer) or answer.reason}")
    if kernel.owned and of_server(kernel):
        raise ServerNotFound(
            "The kernel belongs to a Jupyter server that could not be asked to end it. It was left alone: the server "
            "would start it anew.",
            "shut it down in JupyterLab (Running Terminals and Kernels).",
            "\n".join(refused) or "None of the servers in jupyter server list has it.",
        )
    return False


def of_server(kernel: Known) -> bool:
    """Whether it was a Jupyter server that started the kernel, or took it up, and no program."""
    left = handover.read(kernel.run)
    return left is not None and bool(left.root)
