"""A text about an examination that may be pasted where everybody sees it: versions, findings, no private words."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Sequence

from .. import __version__
from ..engine.base import Engine
from ..errors import TfgpuError
from .facts import look_at_machine
from .findings import Finding
from .text import report


async def paste(findings: Sequence[Finding], engine: Engine | TfgpuError, image: str) -> str:
    """Return the text, in Markdown."""
    machine = look_at_machine()
    about = [
        f"tfgpu-kernel {__version__}, Python {platform.python_version()}",
        f"{machine.system}, kernel {machine.kernel}{', WSL2' if machine.wsl else ''}",
        f"engine {await _version(engine)}, image {image}",
    ]
    private = [os.path.expanduser("~"), socket.gethostname(), _user()]
    return report(findings, about, [word for word in private if word not in ("root", "/")])


async def _version(engine: Engine | TfgpuError) -> str:
    if isinstance(engine, TfgpuError):
        return "none"
    try:
        return (await engine.info()).version
    except TfgpuError as error:
        return error.code


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
