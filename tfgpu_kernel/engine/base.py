"""What the rest of the package may ask of a container engine, and the records it answers with.

Everything here is plain ``async``; an implementation owns whatever threads it needs and never blocks the
caller's event loop. Methods raise the ``Engine…`` errors of :mod:`tfgpu_kernel.errors`. Not knowing is
not death: where an engine doesn't answer, nothing is reported as ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class EngineInfo:
    """What an engine says of itself."""

    version: str
    api_version: str
    os_type: str
    architecture: str
    host_name: str
    operating_system: str
    runtimes: tuple[str, ...]
    rootless: bool
    userns_remap: bool
    root_dir: str
    cpus: int
    memory_bytes: int
    cdi_devices: tuple[str, ...] = ()
    cdi: bool = False
    """Whether the engine reads CDI specifications at all."""
    live_restore: bool = False
    selinux: bool = False
    names_localhost: bool = False
    """Whether the engine gives containers without a network an ``/etc/hosts``, too (podman); none can be put there."""
    fills_tmpfs: bool = False
    """Whether a tmpfs gets a copy of what it covers, unless told otherwise (podman)."""


@dataclass(frozen=True)
class ImageRecord:
    """An image that the engine has.

    ``digests`` are repository digests (``name@sha256:…``), empty for images that never saw a registry.
    ``layers`` are the diff_ids, bottom first: they, with the platform, are the image's identity.
    """

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[str, ...]
    architecture: str
    os: str
    size_bytes: int
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]
    created: str = ""
    command: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The registry's digest (``sha256:…``), or the image id where the image never saw a registry."""
        return self.digests[0].partition("@")[2] if self.digests else self.id


@dataclass(frozen=True)
class ContainerRecord:
    """A container as one listing shows it."""

    id: str
    name: str
    image: str
    state: str
    """Docker's word: created, running, paused, restarting, removing, exited, dead."""
    labels: Mapping[str, str]
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Exit:
    """How a container ended.

    ``oom_killed`` is the engine's flag: true also when only a child of the kernel was killed, so it means
    something only together with ``code`` 137.
    """

    code: int
    oom_killed: bool = False
    error: str = ""
    unseen: bool = False
    """It ended while the engine was not there to tell: the engine was restarted, or hung."""


@dataclass(frozen=True)
class ExecResult:
    """What a command in a running container printed, standard error included, and its exit code."""

    code: int
    output: bytes


@dataclass(frozen=True)
class ImageEvent:
    """One line of a pull's, build's or load's stream, as the engine gave it.

    ``layer`` is the layer's short id in a pull; ``done`` and ``total`` are bytes.
    """

    status: str
    layer: str = ""
    done: int | None = None
    total: int | None = None


class Engine(Protocol):
    """A container engine of one machine."""

    @property
    def address(self) -> str:
        """Where the engine is, as ``DOCKER_HOST`` would have it."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether the engine is reached through a unix socket."""
        ...

    async def info(self) -> EngineInfo:
        """Return what the engine is. What it said before will do while nothing says that it changed."""
        ...

    def forget_info(self) -> None:
        """Ask the engine anew what it is, the next time: what came of the last answer was of no use."""
        ...

    async def create(self, config: Mapping[str, Any], name: str | None = None) -> str:
        """Make a container from a body of Docker's ``POST /containers/create``; return its id."""
        ...

    async def put_archive(self, container: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive in the container, owners and modes as the archive says."""
        ...

    async def get_archive(self, container: str, path: str) -> bytes:
        """Return a path of the container as a tar archive; empty where the path does not exist."""
        ...

    async def start(self, container: str) -> None:
        """Start a container that was created."""
        ...

    async def signal(self, container: str, signum: int) -> None:
        """Send a signal to the container's first process."""
        ...

    async def stop(self, container: str, grace_seconds: int) -> None:
        """Send TERM, and KILL when the grace is over."""
        ...

    async def remove(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes. No error when it is gone."""
        ...

    def discard(self, container: str) -> None:
        """Remove a container without waiting for it; :meth:`close` waits. A failure is logged."""
        ...

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        ...

    async def update(self, container: str, **limits: Any) -> None:
        """Change limits of a running container, in the words of Docker's update call."""
        ...

    async def inspect(self, container: str) -> dict[str, Any]:
        """Return all that the engine knows of a container, in Docker's form."""
        ...

    async def exit_status(self, container: str) -> Exit | None:
        """How a container ended, or None while it has not (created counts as not ended)."""
        ...

    async def list(self, labels: Mapping[str, str]) -> Sequence[ContainerRecord]:
        """List the containers, running or not, that bear all these labels; an empty value matches any."""
        ...

    async def logs(self, container: str, tail: int = 50) -> str:
        """Return the last lines that the container printed."""
        ...

    def follow(self, container: str) -> AsyncIterator[bytes]:
        """Give what a container prints, from its start on, as it comes; ends with the container."""
        ...

    async def execute(
        self, container: str, command: Sequence[str], *, user: str = "", seconds: float = 60
    ) -> ExecResult:
        """Run a command in a running container and wait for it."""
        ...

    def watch(self, container: str) -> Future[Exit]:
        """Return a future that gets the container's end, pushed by the engine's event stream.

        One subscription serves all watches of the process. The future belongs to no event loop.
        """
        ...

    def unwatch(self, container: str) -> None:
        """Forget a watch; its future is cancelled if it is still open."""
        ...

    async def image(self, reference: str) -> ImageRecord | None:
        """Look up an image that the engine has; None where it hasn't."""
        ...

    async def images(self, labels: Mapping[str, str]) -> Sequence[ImageRecord]:
        """List the images that bear all these labels; an empty value matches any."""
        ...

    def pull(self, reference: str) -> AsyncIterator[ImageEvent]:
        """Pull an image; closing the iterator cancels the pull."""
        ...

    async def registry_digest(self, reference: str, seconds: float) -> str:
        """Ask the image's registry, through the engine, for the digest behind a reference.

        :raises RegistryUnreachable: when there is no answer within ``seconds``.
        :raises ImageNotFound: when the registry doesn't have it or wants a login.
        """
        ...

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], network: str = ""
    ) -> AsyncIterator[ImageEvent]:
        """Build an image from a tar archive with a Dockerfile; closing the iterator cancels it."""
        ...

    async def commit(
        self, container: str, reference: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> str:
        """Make an image of a container's present state; return its id."""
        ...

    async def import_image(self, archive: Path, reference: str, changes: Sequence[str]) -> str:
        """Make an image from a tar archive of a root file system; return its id."""
        ...

    def load(self, archive: Path) -> AsyncIterator[ImageEvent]:
        """Load images from a ``docker save`` archive."""
        ...

    def save(self, references: Sequence[str]) -> AsyncIterator[bytes]:
        """Write images as a ``docker save`` archive, in chunks."""
        ...

    async def tag(self, image: str, reference: str) -> None:
        """Give an image another name."""
        ...

    async def remove_image(self, image: str, *, force: bool = False) -> None:
        """Remove an image, or one of its names. No error when it is gone."""
        ...

    def remove_now(self, container: str) -> None:
        """Remove a container from where no event loop is left (the interpreter's exit); blocks."""
        ...

    async def close(self) -> None:
        """End the threads and connections; running containers go on."""
        ...
