"""Docker's Engine API through docker-py.

docker-py is synchronous, and one client must not be used by two threads (docker-py#3229): calls run in a
small pool of threads with a client each. The event stream has a thread and a client of its own, alive
only while somebody watches a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.errors import ImageNotFound as DockerImageNotFound
from docker.transport import UnixHTTPAdapter
from docker.utils import parse_repository_tag

from .. import errors
from . import cdi, logins
from .base import ContainerRecord, EngineInfo, ExecResult, Exit, ImageEvent, ImageRecord
from .events import Watcher
from .stream import pumped
from .translate import translated

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""How long an ordinary call may take; a busy engine needs a few seconds to create a container."""
INFO_SECONDS: Final = 15.0
"""How long the engine may take to say who it is: the first question of each launch, and of no work to it."""
THREADS: Final = 8
"""Calls in flight at once; further ones wait. 2 x cores of starts plus the short calls beside them."""


class DockerEngine:
    """A Docker engine, or one that speaks Docker's API, at one address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._local = threading.local()
        self._clients: list[docker.APIClient] = []
        self._discarded: set[Future[None]] = set()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tfgpu-engine")
        self._watcher = Watcher(self._new_client, self._exit_status)
        self._info: tuple[int, EngineInfo] | None = None

    @property
    def address(self) -> str:
        """Where the engine is, as ``DOCKER_HOST`` would have it."""
        return self._address

    @property
    def is_local(self) -> bool:
        """Whether the engine is reached through a unix socket."""
        return self._address.startswith(("unix://", "http+unix://"))

    @property
    def _is_a_users(self) -> bool:
        """Whether the engine's socket belongs to an ordinary user."""
        try:
            return self.is_local and os.stat(self._address.partition("://")[2]).st_uid != 0
        except OSError:
            return False

    def forget_info(self) -> None:
        """Ask the engine anew what it is, the next time that somebody wants to know."""
        self._info = None

    async def info(self) -> EngineInfo:
        """Ask the engine what it is; while its events tell of no reload and no restart, it is what it said last."""
        generation = self._watcher.unchanged_since
        if self._info is not None and generation and self._info[0] == generation:
            return self._info[1]
        info = await self._asked_info()
        self._info = (generation, info)
        return info

    async def _asked_info(self) -> EngineInfo:
        raw, version = await asyncio.gather(
            self._call(lambda api: api.info(), INFO_SECONDS), self._call(lambda api: api.version(), INFO_SECONDS)
        )
        options = [str(option) for option in raw.get("SecurityOptions") or ()]
        known = [str(device["ID"]) for device in raw.get("DiscoveredDevices") or () if "ID" in device]
        podman = any(part.get("Name") == "Podman Engine" for part in version.get("Components") or ())
        folders = cdi.USUAL if podman else raw.get("CDISpecDirs") or ()
        if self.is_local and not known and folders:
            known = list(await asyncio.to_thread(cdi.devices, folders))
        return EngineInfo(
            version=raw.get("ServerVersion", ""),
            api_version=version.get("ApiVersion", ""),
            os_type=raw.get("OSType", ""),
            architecture=raw.get("Architecture", ""),
            host_name=raw.get("Name", ""),
            operating_system=raw.get("OperatingSystem", ""),
            runtimes=tuple(raw.get("Runtimes") or ()),
            # podman 4 doesn't say so; its socket is its user's.
            rootless=any("rootless" in option for option in options) or (podman and self._is_a_users),
            userns_remap=any("name=userns" in option for option in options),
            root_dir=raw.get("DockerRootDir", ""),
            cpus=raw.get("NCPU", 0),
            memory_bytes=raw.get("MemTotal", 0),
            cdi_devices=tuple(known),
            cdi=bool(folders),
            live_restore=bool(raw.get("LiveRestoreEnabled")),
            selinux=any("name=selinux" in option for option in options),
            names_localhost=podman,
            fills_tmpfs=podman,
        )

    async def create(self, config: Mapping[str, Any], name: str | None = None) -> str:
        """Make a container from a body of Docker's ``POST /containers/create``; return its id."""
        answer = await self._call(lambda api: api.create_container_from_config(dict(config), name))
        return str(answer["Id"])

    async def put_archive(self, container: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive in the container, owners and modes as the archive says."""
        await self._call(lambda api: api.put_archive(container, path, archive))

    async def get_archive(self, container: str, path: str) -> bytes:
        """Return a path of the container as a tar archive; empty where the path does not exist."""

        def fetch(api: docker.APIClient) -> bytes:
            try:
                chunks, _ = api.get_archive(container, path)
            except NotFound:
                api.inspect_container(container)  # the container's own absence is still an error
                return b""
            return b"".join(chunks)

        return await self._call(fetch)

    async def start(self, container: str) -> None:
        """Start a container that was created."""
        await self._call(lambda api: api.start(container))

    async def signal(self, container: str, signum: int) -> None:
        """Send a signal to the container's first process."""
        await self._call(lambda api: api.kill(container, int(signum)))

    async def stop(self, container: str, grace_seconds: int) -> None:
        """Send TERM, and KILL when the grace is over."""
        await self._call(lambda api: api.stop(container, grace_seconds), CALL_SECONDS + grace_seconds)

    async def remove(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes. No error when it is gone."""
        # One that holds gigabytes takes long to remove on a busy disk.
        await self._call(lambda api: _remove(api, container), 4 * CALL_SECONDS)

    def discard(self, container: str) -> None:
        """Remove a container without waiting for it; :meth:`close` waits. A failure is logged."""

        def away() -> None:
            try:
                with self._new_client(4 * CALL_SECONDS) as api:
                    _remove(api, container)
            except (DockerException, requests.RequestException, OSError) as error:
                log.warning("The container %s is left behind until the next sweep: %s", container[:12], error)

        future = self._pool.submit(away)
        self._discarded.add(future)
        future.add_done_callback(self._discarded.discard)

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        await self._call(lambda api: api.rename(container, name))

    async def update(self, container: str, **limits: Any) -> None:
        """Change limits of a running container, in the words of Docker's ``POST /containers/{id}/update``."""

        def change(api: docker.APIClient) -> None:
            # docker-py's own update_container knows neither NanoCpus nor PidsLimit.
            url = f"{api.base_url}/v{api.api_version}/containers/{container}/update"
            response = api.post(url, json=limits)
            if not response.ok:
                raise APIError(response.text.strip(), response=response)

        await self._call(change)

    async def inspect(self, container: str) -> dict[str, Any]:
        """Return all that the engine knows of a container, in Docker's form."""
        record: dict[str, Any] = await self._call(lambda api: api.inspect_container(container))
        return record

    async def exit_status(self, container: str) -> Exit | None:
        """How a container ended, or None while it has not (created counts as not ended)."""
        return await self._call(lambda api: self._exit_status(api, container))

    async def list(self, labels: Mapping[str, str]) -> Sequence[ContainerRecord]:
        """List the containers, running or not, that bear all these labels; an empty value matches any."""
        found = await self._call(lambda api: api.containers(all=True, filters={"label": _match(labels)}))
        return [
            ContainerRecord(
                id=raw["Id"],
                name=(raw.get("Names") or [""])[0].lstrip("/"),
                image=raw.get("Image", ""),
                state=raw.get("State", ""),
                labels=raw.get("Labels") or {},
                created=float(raw.get("Created", 0)),
            )
            for raw in found
        ]

    async def logs(self, container: str, tail: int = 50) -> str:
        """Return the last lines that the container printed."""
        raw: bytes = await self._call(lambda api: api.logs(container, tail=tail))
        return raw.decode(errors="replace").strip()

    def follow(self, container: str) -> AsyncIterator[bytes]:
        """Give what a container prints, from its start on, as it comes; ends with the container."""
        return pumped(
            self._new_client,
            lambda api: iter(api.logs(container, stream=True, follow=True)),
            self._address,
        )

    async def execute(
        self, container: str, command: Sequence[str], *, user: str = "", seconds: float = 60
    ) -> ExecResult:
        """Run a command in a running container and wait for it."""

        def run(api: docker.APIClient) -> ExecResult:
            exec_id = api.exec_create(container, list(command), user=user)["Id"]
            output = api.exec_start(exec_id)
            return ExecResult(int(api.exec_inspect(exec_id)["ExitCode"]), output)

        return await self._call(run, seconds)

    def watch(self, container: str) -> Future[Exit]:
        """Return a future that gets the container's end, pushed by the engine's event stream."""
        return self._watcher.watch(container)

    def unwatch(self, container: str) -> None:
        """Forget a watch; its future is cancelled if it is still open."""
        self._watcher.unwatch(container)

    async def image(self, reference: str) -> ImageRecord | None:
        """Look up an image that the engine has; None where it hasn't."""

        def look(api: docker.APIClient) -> ImageRecord | None:
            try:
                return _image(api.inspect_image(reference))
            except DockerImageNotFound:
                return None

        return await self._call(look, INFO_SECONDS)

    async def images(self, labels: Mapping[str, str]) -> Sequence[ImageRecord]:
        """List the images that bear all these labels; an empty value matches any."""

        def look(api: docker.APIClient) -> list[ImageRecord]:
            # podman takes a filter for one that has a value.
            found = api.images(filters={"label": _match(labels)} if labels else None)
            return [_image(api.inspect_image(raw["Id"])) for raw in found]

        return await self._call(look)

    def pull(self, reference: str) -> AsyncIterator[ImageEvent]:
        """Pull an image; closing the iterator cancels the pull."""
        repository, tag = _split(reference)
        return self._stream(
            lambda api: logins.stream(
                lambda login: api.pull(repository, tag=tag, stream=True, decode=True, auth_config=login)
            ),
            reference,
        )

    async def registry_digest(self, reference: str, seconds: float) -> str:
        """Ask the image's registry, through the engine, for the digest behind a reference."""
        try:
            found = await self._call(
                lambda api: logins.logged_in(lambda login: api.inspect_distribution(reference, login)), seconds
            )
        except errors.EngineNotAnswering as error:
            raise errors.RegistryUnreachable(
                f"The registry of {reference} gave no answer within {seconds:g} s.",
                "check the network, or use an image that is here (jupyter tfgpu image list).",
                str(error.details),
            ) from error
        return str(found["Descriptor"]["digest"])

    def build(
        self, context: bytes, *, tag: str, labels: Mapping[str, str], network: str = ""
    ) -> AsyncIterator[ImageEvent]:
        """Build an image from a tar archive with a Dockerfile; closing the iterator cancels it."""
        return self._stream(
            lambda api: api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                tag=tag,
                labels=dict(labels),
                network_mode=network or None,
                rm=True,
                forcerm=True,
                decode=True,
            ),
            tag,
        )

    async def commit(
        self, container: str, reference: str, changes: Sequence[str], labels: Mapping[str, str]
    ) -> str:
        """Make an image of a container's present state; return its id."""
        repository, tag = _split(reference)
        lines = [*changes, *(f"LABEL {name}={json.dumps(text)}" for name, text in labels.items())]
        answer = await self._call(
            lambda api: api.commit(container, repository, tag=tag, changes=lines), 10 * CALL_SECONDS
        )
        return str(answer["Id"])

    async def import_image(self, archive: Path, reference: str, changes: Sequence[str]) -> str:
        """Make an image from a tar archive of a root file system; return its id."""
        repository, tag = _split(reference)

        def bring(api: docker.APIClient) -> str:
            # Not from a stream: docker-py announces chunks, but requests sends a file in one piece.
            text = api.import_image_from_file(
                str(archive), repository=repository, tag=tag, changes=list(changes)
            )
            last = json.loads(text.strip().splitlines()[-1])
            if "error" in last:
                raise DockerException(last["error"])
            return str(last["status"])

        return await self._call(bring, 20 * CALL_SECONDS)

    def load(self, archive: Path) -> AsyncIterator[ImageEvent]:
        """Load images from a ``docker save`` archive."""

        def bring(api: docker.APIClient) -> Iterator[dict[str, Any]]:
            with archive.open("rb") as file:
                yield from api.load_image(file)

        return self._stream(bring, str(archive))

    async def save(self, references: Sequence[str]) -> AsyncIterator[bytes]:
        """Write images as a ``docker save`` archive, in chunks."""

        def chunks(api: docker.APIClient) -> Iterator[bytes]:
            # docker-py's get_image takes one name; the API's plural form keeps shared layers single.
            url = f"{api.base_url}/v{api.api_version}/images/get"
            response = api.get(url, params={"names": list(references)}, stream=True)
            response.raise_for_status()
            yield from response.iter_content(2**20)

        async for chunk in pumped(self._new_client, chunks, self._address):
            yield chunk

    async def tag(self, image: str, reference: str) -> None:
        """Give an image another name."""
        repository, tag = _split(reference)
        await self._call(lambda api: api.tag(image, repository, tag=tag, force=True))

    async def remove_image(self, image: str, *, force: bool = False) -> None:
        """Remove an image, or one of its names. No error when it is gone."""

        def away(api: docker.APIClient) -> None:
            with contextlib.suppress(DockerImageNotFound):
                api.remove_image(image, force=force)

        await self._call(away, 4 * CALL_SECONDS)

    def remove_now(self, container: str) -> None:
        """Remove a container from where no event loop and no thread pool is left: the interpreter's exit."""
        with contextlib.suppress(DockerException, requests.RequestException, OSError):
            with self._new_client() as api:
                api.remove_container(container, v=True, force=True)

    async def close(self) -> None:
        """End the threads and connections; running containers go on."""
        self._watcher.close()
        if self._discarded:
            await asyncio.wait([asyncio.wrap_future(future) for future in self._discarded], timeout=CALL_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()

    def _new_client(self, seconds: float = CALL_SECONDS) -> docker.APIClient:
        """Make a client for the calling thread; it asks the engine for its version, within ``seconds``."""
        client = logins.Client(base_url=self._address, version="auto", timeout=int(seconds))
        if self.is_local:
            # docker-py keeps a connection for each of the last 25 URLs, and container ids make each URL a new
            # one; its own argument for less (num_pools) has no effect on unix sockets.
            path = self._address.partition("://")[2]
            client.get_adapter("http+docker://").close()
            client.mount("http+docker://", UnixHTTPAdapter(path, int(seconds), pool_connections=1))
        return client

    def _client(self, seconds: float) -> docker.APIClient:
        if not hasattr(self._local, "api"):
            self._local.api = self._new_client(seconds)
            self._clients.append(self._local.api)
        client: docker.APIClient = self._local.api
        return client

    async def _call(self, function: Callable[[docker.APIClient], T], seconds: float = CALL_SECONDS) -> T:
        """Run a call in one of the threads; its errors come out as ours.

        A call that times out, or whose caller is cancelled, ends by itself in its thread at the latest
        when the client's own limit is over.
        """

        def run() -> T:
            api = self._client(seconds)
            api.timeout = int(seconds) + 1
            return function(api)

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._pool.submit(run)), seconds + 1)
        except (DockerException, requests.RequestException, OSError, asyncio.TimeoutError) as error:
            raise translated(error, self._address) from error

    @staticmethod
    def _exit_status(api: docker.APIClient, container: str) -> Exit | None:
        state = api.inspect_container(container)["State"]
        if state["Status"] not in {"exited", "dead"}:
            return None
        return Exit(int(state["ExitCode"]), bool(state.get("OOMKilled")), state.get("Error") or "")

    async def _stream(
        self, begin: Callable[[docker.APIClient], Iterator[dict[str, Any]]], subject: str
    ) -> AsyncIterator[ImageEvent]:
        """Pass on a stream of the engine, line by line; a line with an error raises it."""
        async for raw in pumped(self._new_client, begin, self._address, subject):
            if "error" in raw:
                detail = raw.get("errorDetail", {}).get("message") or raw["error"]
                raise translated(DockerException(detail), self._address, subject)
            progress = raw.get("progressDetail") or {}
            yield ImageEvent(
                status=str(raw.get("status") or raw.get("stream") or "").rstrip(),
                layer=str(raw.get("id", "")),
                done=progress.get("current"),
                total=progress.get("total"),
            )


def _remove(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, v=True, force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409 or "already in progress" not in str(error):
            raise


def _match(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={text}" if text else name for name, text in labels.items()]


def _split(reference: str) -> tuple[str, str | None]:
    """Split a reference into repository and tag or digest; a missing tag is ``latest``."""
    repository, tag = parse_repository_tag(reference)
    return str(repository), tag or "latest"


def _image(raw: Mapping[str, Any]) -> ImageRecord:
    config = raw.get("Config") or {}
    return ImageRecord(
        id=raw["Id"],
        tags=tuple(raw.get("RepoTags") or ()),
        digests=tuple(raw.get("RepoDigests") or ()),
        layers=tuple((raw.get("RootFS") or {}).get("Layers") or ()),
        architecture=raw.get("Architecture", ""),
        os=raw.get("Os", ""),
        size_bytes=int(raw.get("Size") or 0),
        user=config.get("User") or "",
        env=tuple(config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        labels=config.get("Labels") or {},
        created=str(raw.get("Created", "")),
        command=tuple(config.get("Cmd") or ()),
    )
