"""The flow: from a kernel's settings to a container with a kernel that answers.

:func:`launch` reads from top to bottom as it happens. Whatever goes wrong, or when it is cancelled, it
removes what it made and raises an error that says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from . import additions, bootfile, container, deaths, gpus, identity, lease, mounts, policy, ready
from .boot import mounted
from .config import KernelConfig
from .connection import Connection
from .engine.base import Engine, EngineInfo, Exit
from .errors import EngineRefused, EngineUnsuitable, KernelNotReady, TfgpuError
from .furnish import Furniture, furnish
from .gpu.request import NO_GPU, GpuRequest
from .gpus import Grant, Judged
from .identity import Identity
from .image import choice, presets, reserved, site
from .image.ensure import ensure
from .image.facts import identity as image_identity
from .image.hardware import Hardware, free_bytes
from .image.ready import ReadyImage
from .labels import RUN, KernelLabels
from .mounts import Bind, Mounts
from .owner import Owner
from .postpone import postpone
from .progress import Report, Step
from .runfolder import KernelState, RunFolder, cache_folder
from .threads import carried_out

log = logging.getLogger(__name__)

LOG_LINES: Final = 30
"""How much of a dead container's log is shown with the error."""
_STARTS_AT_ONCE: Final = 2 * (os.cpu_count() or 1)
"""CPU at the start is what breaks first under load; beyond this starts only slow each other down."""

_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

NO_RUN: Final = Path("/nowhere")
"""Stands for the run folder in mounts that are planned before there is one."""

Shape = Callable[[dict[str, Any], RunFolder], dict[str, Any]]
"""Takes the create call's body and the run folder, and returns the body to be used; runs in a thread."""


@dataclass(frozen=True)
class Request:
    """What is to be launched, apart from the kernel's settings."""

    kernel_id: str
    kernel_name: str
    cwd: str
    workspace: str
    env: Mapping[str, str]
    notebook: str = ""
    run: RunFolder | None = None
    """The run folder of the kernel that this one follows (a restart), or None."""
    connection: Connection | None = None
    """The connection of the kernel that this one follows; clients keep their channels."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that answers."""

    container: str
    """The container's id."""
    end: Future[Exit]
    """Gets the container's end when it comes; belongs to no event loop."""
    connection: Connection
    run: RunFolder
    identity: Identity
    image: ReadyImage
    mounts: Mounts
    gpu: Grant
    seconds: float
    """From the request to the first answer."""


@dataclass(frozen=True)
class Prepared:
    """All that was decided and found out before anything is made: image, GPUs, user, mounts."""

    request: Request
    config: KernelConfig
    info: EngineInfo
    identity: Identity
    gpu: Judged
    image: ReadyImage
    mounts: Mounts
    """With the run folder's place taken by :data:`NO_RUN`, until there is one; see :meth:`mounts_with`."""
    furniture: Furniture
    began: float
    """On the monotonic clock."""

    def mounts_with(self, run: RunFolder) -> Mounts:
        """Return the mounts with a run folder in its place, and what cells have installed."""
        binds = (
            replace(bind, source=str(run.io)) if bind.source == str(NO_RUN) else bind for bind in self.mounts.binds
        )
        installed = Bind(str(self.additions(run)), additions.CONTAINER_FOLDER, read_only=False)
        return replace(self.mounts, binds=(*binds, installed, *self.furniture.binds))

    def additions(self, run: RunFolder) -> Path:
        """Return the folder of what the notebook's cells have installed in this image."""
        image = image_identity(self.image.record)
        return additions.folder(image, self.request.notebook, run.path.name, self.identity.host_uid)

    def body(
        self, run: RunFolder, env: Mapping[str, str] | None = None, gpu: GpuRequest = NO_GPU
    ) -> dict[str, Any]:
        """Return the create call's body; ``env`` in place of the request's environment."""
        plan = container.Plan(
            config=self.config,
            image=self.image.record.id,
            python=self.image.python,
            identity=self.identity,
            mounts=self.mounts_with(run),
            empty_file=str(run.empty),
            cwd=self.cwd,
            env={**self.furniture.env, **(self.env if env is None else env)},
            gpu=gpu,
            labels=KernelLabels(
                uid=os.geteuid(),
                owner=str(Owner.current()),
                run=str(run.path),
                image=self.config.image,
                config=self.config.fingerprint(),
                gpus=gpu.uuids,
            ),
        )
        return container.create_args(plan, self.info)

    @property
    def cwd(self) -> str:
        """The working directory as the container has it."""
        return self.mounts.inside(self.request.cwd) or self.request.cwd

    @property
    def env(self) -> dict[str, str]:
        """The caller's environment with the notebook's path as the container has it."""
        env = dict(self.request.env)
        notebook = env.get("JPY_SESSION_NAME")
        if notebook and notebook.startswith("/"):
            env["JPY_SESSION_NAME"] = self.mounts.inside(notebook) or notebook
        return env


async def launch(request: Request, config: KernelConfig, engine: Engine, report: Report) -> Kernel:
    """Start a kernel in a container and wait until it answers.

    :raises TfgpuError: whatever goes wrong; nothing is left behind.
    """
    return await start(await prepare(request, config, engine, report), engine, report)


async def prepare(request: Request, config: KernelConfig, engine: Engine, report: Report) -> Prepared:
    """Decide and find out all that a start needs; makes nothing but the image and the user's caches.

    :raises TfgpuError: whatever is missing.
    """
    try:
        prepared = await _prepare(request, config, engine, report)
    except TfgpuError:
        engine.forget_info()  # what is missing may be there at the next try, a runtime for instance
        raise
    if prepared.gpu.cpu_because:
        engine.forget_info()
    return prepared


async def _prepare(request: Request, config: KernelConfig, engine: Engine, report: Report) -> Prepared:
    began = time.monotonic()
    report(Step("engine", "Asking the Docker engine"))
    info = await engine.info()
    check_engine(info)
    who = identity.identify(config.user, request.workspace, info, excluded_groups(engine))
    cache = await asyncio.to_thread(prepare_cache, who)
    limits = await asyncio.to_thread(policy.load)
    config = replace(config, memory=limits.limited(config))
    gpu = await gpus.judge(config, limits, info, report, request.run, presets.suits(config.image))
    machine = hardware(config, gpu, engine, info)
    chosen = choice.choose(config.image, machine)
    if chosen.because:
        report(Step("resolving", chosen.because, notice=True))
    config = replace(config, image=chosen.reference)
    limits.check_image(config.image)
    gpu = replace(gpu, suits=presets.suits(config.image))
    image = await ensure(config.image, engine, config, report, machine)
    planned = await asyncio.to_thread(plan_mounts, request, config, engine, cache, who)
    for bind in planned.binds:
        if bind.source not in {str(NO_RUN), str(cache)}:
            limits.check_folder(bind.source)
    await asyncio.to_thread(reserved.note, image.record, request.notebook)
    hosts = config.network == "none" and not info.names_localhost
    furniture = furnish(image, await asyncio.to_thread(site.find), hosts=hosts)
    return Prepared(request, config, info, who, gpu, image, planned, furniture, began)


async def start(
    prepared: Prepared,
    engine: Engine,
    report: Report,
    *,
    shape: Shape | None = None,
    granted: Grant | None = None,
) -> Kernel:
    """Lease the GPUs, make the container and wait until its kernel answers.

    :param shape: for a kernel that nobody waits for yet; what is started then belongs to no notebook.
    :param granted: what it sees of the GPUs without a lease: it uses none before it is somebody's.
    :raises TfgpuError: whatever goes wrong; nothing is left behind.
    """
    request, config, who = prepared.request, prepared.config, prepared.identity
    run = request.run
    if run is None:
        run = await asyncio.to_thread(RunFolder.new)
    creating: asyncio.Task[str] | None = None
    try:
        await carried_out(run.make, who.host_uid, who.host_gid)
        # The run folder holds the lease, which ends with it.
        grant = granted or await gpus.grant(prepared.gpu, config, engine, prepared.info, run, who.host_uid, report)
        connection = request.connection or Connection(str(run.io))
        await carried_out(run.note_engine, engine.address)
        await carried_out(run.prepare, connection, bootfile.archive(), who.host_uid, who.host_gid)
        expected = prepared.mounts.expected()
        await carried_out(run.share, mounted.FILE, expected, who.host_uid, who.host_gid)
        await carried_out(additions.prepare, prepared.additions(run), who.host_uid, who.host_gid)
        body = prepared.body(run, gpu=grant.request)
        if shape is not None:
            body = await carried_out(shape, body, run)
        body = postpone(body, prepared.image.record.env, prepared.mounts_with(run))
        async with _turn():
            report(Step("creating", f"Creating the container from {config.image}"))
            # A task of its own: cancelled in the middle, the engine still makes the container, and it must go.
            creating = asyncio.ensure_future(created(engine, body, run))
            files = await asyncio.to_thread(files_inside, prepared)
            made = await asyncio.shield(creating)
            end = engine.watch(made)
            report(Step("starting", "Starting the kernel"))
            await engine.start(made)
            await furnished(engine, made, files, first_answer(connection, end, config, engine, made))
        if shape is None:
            write_running(run, request, made)
    except BaseException:
        await asyncio.shield(undo(engine, creating, run, keep_folder=request.run is not None))
        raise
    seconds = time.monotonic() - prepared.began
    report(Step("ready", f"Ready after {seconds:.1f} s"))
    planned = prepared.mounts_with(run)
    return Kernel(made, end, connection, run, who, prepared.image, planned, grant, seconds)


async def created(engine: Engine, body: Mapping[str, Any], run: RunFolder) -> str:
    """Make the container and return its id; one that an earlier start has left under its name is removed.

    An engine that gives no answer in time makes the container all the same, when nobody waits for it any more.

    :raises TfgpuError: where the engine refuses.
    """
    name = f"tfgpu-{run.path.name}"
    try:
        return await engine.create(body, name)
    except EngineRefused:
        late = [record.id for record in await engine.list({RUN: str(run.path)}) if record.name == name]
        if not late:
            raise
        for container in late:
            await engine.remove(container)
        return await engine.create(body, name)


def files_inside(prepared: Prepared) -> bytes:
    """Return what is unpacked in the container: passwd and group with the user in them, home, programs for cells."""
    image = prepared.image
    return identity.archive(prepared.identity, image.passwd, image.group, prepared.furniture.files)


async def furnished(engine: Engine, made: str, files: bytes, answer: Coroutine[Any, Any, None]) -> None:
    """Unpack files in the container while its Python is still importing, and wait for the kernel's answer.

    The kernel's own program waits for the files before anything of the user's could miss them.

    :raises TfgpuError: what either of the two raises first; the other is cancelled.
    """
    tasks = [asyncio.ensure_future(engine.put_archive(made, "/", files)), asyncio.ensure_future(answer)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _turn() -> asyncio.Semaphore:
    """Return what lets some starts through at once; one for each event loop, since it belongs to its loop."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_STARTS_AT_ONCE))


def write_running(run: RunFolder, request: Request, made: str) -> None:
    """Note who runs in a container."""
    run.write_state(KernelState(request.kernel_id, request.kernel_name, request.notebook, "running", made, time.time()))


def hardware(config: KernelConfig, gpu: gpus.Judged, engine: Engine, info: EngineInfo) -> Hardware:
    """Return what decides which image suits."""
    found = tuple((unit.name, unit.compute_capability) for unit in gpu.likely)
    return Hardware(info.architecture, found, gpu.cuda, config.gpus != 0, free_bytes(engine, info))


def check_engine(info: EngineInfo) -> None:
    """Refuse an engine that can't run our containers.

    :raises EngineUnsuitable: when it runs Windows containers.
    """
    if info.os_type not in {"linux", ""}:
        raise EngineUnsuitable(
            f"This engine runs {info.os_type} containers; TensorFlow's images are for Linux.",
            "switch Docker Desktop to Linux containers.",
        )


def excluded_groups(engine: Engine) -> tuple[int, ...]:
    """Return the group that may use the engine's socket; a kernel is no member of it."""
    try:
        return (os.stat(engine.address.partition("://")[2]).st_gid,) if engine.is_local else ()
    except OSError:
        return ()


def prepare_cache(who: Identity) -> Path:
    """Make the folders that outlive the kernel, for the kernel's user, and return their parent."""
    cache = cache_folder(who.host_uid)
    for folder in (cache, *(cache / name for name in identity.KEPT_FOLDERS)):
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            if who.host_uid != os.geteuid():
                _give(folder, who)
    return cache


def _give(folder: Path, who: Identity) -> None:
    """Make a folder the kernel's user's; a running kernel of theirs may put a link in its place meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, who.host_uid, who.host_gid)
    finally:
        os.close(descriptor)


def plan_mounts(request: Request, config: KernelConfig, engine: Engine, cache: Path, who: Identity) -> Mounts:
    """Judge the mounts; a home, whose hidden entries are covered, is the server's, the kernel's user's, and all known.

    A directory service (LDAP, SSSD) need not list its users, so those two are asked for by number. Blocks.
    """
    homes = {os.path.expanduser("~"), *(entry.pw_dir for entry in pwd.getpwall())}
    for uid in (os.geteuid(), who.host_uid):
        with contextlib.suppress(KeyError):
            homes.add(pwd.getpwuid(uid).pw_dir)
    homes.discard("/")
    roots = config.mount_roots or (os.path.expanduser("~"), request.workspace)
    return mounts.plan(
        workspace=config.workspace or request.workspace,
        cwd=request.cwd,
        run_io=NO_RUN,
        cache=cache,
        further=config.mounts,
        roots=roots,
        homes=homes,
        sockets=(engine.address.partition("://")[2],) if engine.is_local else (),
    )


async def first_answer(
    connection: Connection, end: Future[Exit], config: KernelConfig, engine: Engine, made: str
) -> None:
    """Wait for the kernel's first answer; translate its absence.

    :raises KernelDied: and its kin, when the container ends first.
    :raises KernelNotReady: when the launch's time is over first.
    """
    try:
        await ready.first_answer(connection, end, config.launch_timeout)
    except ready.Ended as error:
        text = await engine.logs(made, LOG_LINES)
        raise deaths.explain(error.end, text, image=config.image, memory=config.memory, gpus=config.gpus != 0) from None
    except TimeoutError:
        text = await engine.logs(made, LOG_LINES)
        shared = any(os.path.exists(socket) for socket in connection.sockets)
        raise KernelNotReady(
            f"The container runs, but its kernel gave no answer within {config.launch_timeout:g} s"
            + ("." if shared else ", and its sockets don't appear here: the engine may run in a virtual "
               "machine (Docker Desktop), which can't pass sockets on."),
            "try again when the machine is less busy, or raise launch_timeout."
            if shared
            else "use an engine that runs on this machine itself.",
            text,
        ) from None  # fmt: skip


async def undo(engine: Engine, creating: asyncio.Task[str] | None, run: RunFolder, *, keep_folder: bool) -> None:
    """Remove what a launch made before it failed."""
    if creating is not None:
        try:
            made = await creating
            engine.unwatch(made)
            await engine.remove(made)
        except TfgpuError:  # the launch's own error is what the user must see
            log.exception("A container of a failed launch stays behind; jupyter tfgpu prune removes it")
    if not keep_folder:
        await lease.release(run.path, engine)
        await asyncio.to_thread(run.remove)
