"""Show the kernels that outlived their server, have a running server take one up, or end it."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from jupyter_server.serverapp import list_running_servers
from rich.console import Console
from rich.table import Table

from .. import handover
from ..engine import find
from ..errors import ServerNotFound
from ..handover import root_of
from . import servers, stop
from .kernels import Known, known, one
from .ps import duration, row

SECONDS = 30.0
"""How long a server may take to take a kernel up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("kernel", metavar="KERNEL", nargs="?", help="the beginning of its id; none lists them all")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--server", metavar="URL", help="which running server, see jupyter server list")
    way.add_argument("--stop", action="store_true", help="end the kernel instead")
    way.add_argument("--json", action="store_true", help="print the list as JSON")


async def run(arguments: argparse.Namespace) -> int:
    """List, take up, or end."""
    if arguments.kernel and arguments.stop:
        return await stop.run(arguments)
    engine = find.engine()
    try:
        if not arguments.kernel:
            show([kernel for kernel in await known(engine) if kernel.grace_seconds is not None], arguments.json)
            return 0
        kernel = await one(engine, arguments.kernel)
    finally:
        await engine.close()
    server = chosen(await asyncio.to_thread(lambda: list(list_running_servers())), arguments.server, root(kernel))
    await asyncio.to_thread(take_up, server, kernel.kernel_id)
    print(f"{kernel.kernel_id} belongs to {server['url']} now")
    return 0


def show(kernels: Sequence[Known], as_json: bool) -> None:
    """Print the kernels whose server is gone."""
    if as_json:
        print(json.dumps([{**row(kernel), "root": root(kernel)} for kernel in kernels], indent=1))
        return
    if not kernels:
        print("No kernel runs without a server.")
        return
    table = Table("KERNEL", "NOTEBOOK", "UP", "KEPT", "ROOT FOLDER OF ITS SERVER", box=None)
    for kernel in kernels:
        table.add_row(
            kernel.kernel_id[:12],
            (kernel.state.notebook if kernel.state else "") or "-",
            duration(time.time() - kernel.container.created),
            duration(kernel.grace_seconds or 0),
            _whose(kernel),
        )
    Console().print(table)


def root(kernel: Known) -> str:
    """Return the root folder of the server that the kernel had; empty where it had none."""
    left = handover.read(kernel.run)
    return left.root if left else ""


def _whose(kernel: Known) -> str:
    if not kernel.adoptable:
        return "- (no server can take it up, see adopt --stop)"
    return root(kernel) or "- (a program's, which ended)"


def _same(url: str) -> str:
    """Return a URL as all ways to write it are compared: this machine has several names for itself."""
    try:
        parts = urlsplit(url)
        host = "localhost" if parts.hostname in {"127.0.0.1", "::1"} else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port}{parts.path.rstrip('/')}"
    except ValueError:  # no URL at all, so that of no server
        return url


def chosen(servers: Sequence[Mapping[str, Any]], url: str | None, root: str) -> Mapping[str, Any]:
    """Return the server that was named, or else the one with the kernel's root folder, or else the only one.

    :raises ServerNotFound: where that leaves none, or a choice.
    """
    if url is not None:
        found = [server for server in servers if _same(server["url"]) == _same(url)]
    else:
        same = [server for server in servers if root and root_of(server["root_dir"]) == root]
        found = same[:1] or list(servers)
    if len(found) != 1:
        raise ServerNotFound(
            f"{'No server of yours runs' if not found else 'Several servers run'}"
            + (f" at {url}." if url else ", and none has the kernel's root folder." if found else "."),
            "name one with --server; jupyter server list shows them."
            if servers
            else f"start one{f' with the root folder {root}, which takes the kernel up by itself' if root else ''}.",
        )
    return found[0]


def take_up(server: Mapping[str, Any], kernel_id: str) -> None:
    """Have a server take up a kernel.

    :raises ServerNotFound: where it doesn't.
    """
    try:
        answer = servers.ask(server, "POST", f"tfgpu/adopt/{kernel_id}", SECONDS)
    except requests.RequestException as error:
        raise ServerNotFound(
            f"The server {server['url']} can't be asked: {servers.silence(error)}.",
            "choose another with --server, or start one.",
        ) from error
    if servers.done(answer):
        return
    if shut := servers.shut(server, answer):
        raise ServerNotFound(
            f"The server {server['url']} did not take the kernel up: {shut}.",
            "restart it, since as it starts it takes up the kernels of its root folder; or give it a token "
            "(--IdentityProvider.token), and try again.",
        )
    try:
        text = str(answer.json()["message"])
    except (ValueError, KeyError):
        text = answer.reason
    raise ServerNotFound(
        f"The server {server['url']} did not take the kernel up: {text}",
        "choose one from jupyter tfgpu adopt, or start a server with this package.",
    )
