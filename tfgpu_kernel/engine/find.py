"""Where the engine is: the places that Docker's own command line looks at, then the usual sockets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import DockerException

from .. import errors
from .base import Engine
from .docker import DockerEngine

_engines: dict[str, DockerEngine] = {}


def engine(environ: Mapping[str, str] | None = None) -> Engine:
    """Return this process's engine; one for each address, shared by all kernels.

    :raises EngineNotFound: when no place has one.
    """
    address = find(os.environ if environ is None else environ)
    if address not in _engines:
        _engines[address] = DockerEngine(address)
    return _engines[address]


def at(address: str) -> Engine:
    """Return this process's engine at an address, by whichever name of its socket it was asked first."""
    known = next((other for other in _engines if same(other, address)), address)
    if known not in _engines:
        _engines[known] = DockerEngine(known)
    return _engines[known]


def same(one: str, other: str) -> bool:
    """Whether two addresses are one engine's: a socket may have two names (/var/run leads to /run)."""
    return one == other or _real(one) == _real(other)


def _real(address: str) -> str:
    kind, separator, path = address.partition("://")
    return f"unix://{os.path.realpath(path)}" if separator and kind.endswith("unix") else address


def forget(engine: Engine) -> None:
    """Drop an engine from the shared ones, after its ``close``."""
    for address, known in list(_engines.items()):
        if known is engine:
            del _engines[address]


def find(environ: Mapping[str, str]) -> str:
    """Return the engine's address: ``DOCKER_HOST``, Docker's current context, or a socket that exists.

    :raises EngineNotFound: when there is none.
    """
    chosen = environ.get("DOCKER_HOST") or context(environ)
    if chosen:
        return chosen
    tried = []
    for socket in sockets(environ):
        tried.append(socket)
        if is_socket(socket):
            return f"unix://{socket}"
    raise errors.EngineNotFound(
        f"No Docker engine was found on this machine (looked for {', '.join(tried)}; DOCKER_HOST is not "
        "set).",
        "install Docker (on Debian or Ubuntu: sudo apt-get install docker.io), and start it: sudo "
        "systemctl start docker.",
    )


def sockets(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the usual sockets, best first: the machine's, a rootless Docker's, a rootless podman's."""
    yield "/var/run/docker.sock"
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    yield f"{runtime}/docker.sock"
    yield f"{runtime}/podman/podman.sock"


def is_socket(path: str) -> bool:
    """Whether there is a socket at a path."""
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


def context(environ: Mapping[str, str]) -> str:
    """Return the address of Docker's current context, unless that is the default one.

    :raises EngineNotFound: where there is no such context; another engine is never taken in its place.
    """
    name = environ.get("DOCKER_CONTEXT") or ""
    try:
        found = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    except DockerException as error:
        raise errors.EngineNotFound(
            f"Docker's context {name!r} can't be read.",
            "choose another: docker context use default.",
            str(error),
        ) from error
    if found is None:
        where = "DOCKER_CONTEXT names" if name else "is the current one in Docker's config.json"
        name = name or get_current_context_name()
        raise errors.EngineNotFound(
            f"Docker has no context {name!r}, which {where}.",
            "choose one of docker context ls: docker context use NAME, with DOCKER_CONTEXT unset.",
        )
    if found.name == "default":
        return ""
    return str(found.Host or "")
