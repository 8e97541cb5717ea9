"""The server extension's entrance: settings, and who owns what."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets import Bool

from .. import adopt, launches, ports, sweep
from ..config import AUTO
from ..engine import find
from ..errors import EngineNotFound
from ..launches import Launch
from ..pool import Pool
from . import adoption, doctor, gpu_handlers, idle_handlers, preset, proxy, replay, sessions, sharing, terminals
from .culled import Culled
from .doctor import Doctor
from .feed import Feed
from .given_up import GivenUp
from .handlers import ROUTES, EngineHandler
from .idle import Idle
from .jobs import Jobs
from .joined import Joined
from .pulse import Pulse
from .restarts import Restarts
from .roster import Roster, Warm
from .sampler import Sampler

PROVISIONER: Final = "tfgpu-docker-provisioner"
"""The provisioner's name among the entry points, and in kernel.json."""
_SCHEMAS: Final = Path(__file__).parent / "events"
_ENGINE_EVENT: Final = "urn:tfgpu-kernel:engine:v1"
_IDLE_EVENT: Final = "urn:tfgpu-kernel:idle:v1"
_GPUS_EVENT: Final = "urn:tfgpu-kernel:gpus:v1"


class TfgpuApp(ExtensionApp):
    """Shows what happens to kernels in containers, for the lab extension."""

    name = "tfgpu_kernel"
    extension_url = "/lab"
    load_other_extensions = True

    emit_events = Bool(
        True,
        config=True,
        help="Hint changes to browsers through Jupyter's events. Without it they ask every few seconds.",
    )

    def initialize_settings(self) -> None:
        """Make the feed, and the events that it emits known."""
        assert self.serverapp is not None
        logger = self.serverapp.event_logger
        assert logger is not None
        for schema in sorted(_SCHEMAS.glob("*.yaml")):
            logger.register_event_schema(schema)

        def emit(schema_id: str, data: dict[str, str]) -> None:
            if self.emit_events:
                logger.emit(schema_id=schema_id, data=data)

        self._ending: asyncio.Task[None] | None = None
        self._pool = Pool()
        self._pool.start()
        loop = asyncio.get_event_loop()
        self._feed = Feed(self.serverapp.root_dir, loop, emit)
        self._jobs = Jobs()
        self._doctor = Doctor(str(self.config.get("TfgpuProvisioner", {}).get("image", AUTO)))
        self._roster = Roster(self.serverapp.kernel_manager, self.serverapp.session_manager, self._waiting)
        self._sampler = Sampler(self._roster.containers, main_pid, lambda: emit(_GPUS_EVENT, {}))
        self._idle = Idle(
            self._roster,
            self._sampler,
            self.serverapp.kernel_manager,
            lambda kernel_id: emit(_IDLE_EVENT, {"kernel_id": kernel_id}),
        )

        def launched(launch: Launch) -> None:
            loop.call_soon_threadsafe(self._sampler.wake)

        self._stop_waking = launches.listen(launched)
        self._pulse = Pulse(self._engine_address(), self.log, lambda: emit(_ENGINE_EVENT, {}))
        self._sweeping: asyncio.Task[None] | None = None
        replay.use(self.settings)
        ports.announce(self.serverapp.base_url)
        joined = Joined(self.serverapp.session_manager, self._is_ours)
        self.serverapp.session_manager.create_session = joined
        self.serverapp.session_manager.delete_session = joined.delete
        kernels = self.serverapp.kernel_manager
        kernels.cull_kernel_if_idle = Culled(kernels, self._roster)  # type: ignore[method-assign]
        self._given_up = GivenUp(kernels, self.log)
        kernels._handle_kernel_died = self._given_up  # type: ignore[method-assign]
        restarts = Restarts(kernels)
        kernels.restart_kernel = restarts  # type: ignore[method-assign]
        # The server's end calls the one of the two names, all others the other.
        kernels.shutdown_kernel = kernels._async_shutdown_kernel = restarts.shutdown  # type: ignore[method-assign]
        # Before the first request can list kernels or sessions: both forget what they don't find then.
        self._lock = sessions.persist(self.serverapp.session_manager, self.serverapp.root_dir)
        self._adopted = self._take_up_kernels()

    def _take_up_kernels(self) -> Sequence[adopt.Adopted]:
        """Take up the kernels that a former server left; whatever goes wrong with that, the server starts."""
        assert self.serverapp is not None
        try:
            multi = self.serverapp.kernel_manager
            adopted = adopt.all_of(multi, self.serverapp.root_dir, self.log)
            replay.await_pages(multi, adopted)
            return adopted
        except Exception:
            self.log.exception("Kernels of a former server could not be taken up")
            return ()

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Go on where the loop runs."""
        end_in_good_order()
        self._pulse.start()
        self._idle.start()
        self._sampler.wake()  # kernels that were taken up are sampled, whether somebody looks or not
        try:
            await sessions.complete(serverapp.session_manager, self._adopted, serverapp.root_dir)
        except Exception:  # a disk that is full, say; Lab lists the kernels all the same
            self.log.exception("Notebooks won't find the kernels that were taken up")
        self._sweeping = asyncio.get_running_loop().create_task(sweep.regularly(self.log))

    def _waiting(self) -> Sequence[Warm]:
        return [Warm(entry.container, entry.gpus) for entry in self._pool.state()]

    def _engine_address(self) -> str:
        try:
            return find.find(os.environ)
        except EngineNotFound:
            return ""

    def initialize_handlers(self) -> None:
        """Serve the calls."""
        self.handlers.extend((path, handler, {"feed": self._feed}) for path, handler in ROUTES)
        self.handlers.append((r"/tfgpu/engine", EngineHandler, {"pulse": self._pulse}))
        self.handlers.extend((path, handler, {"doctor": self._doctor}) for path, handler in doctor.ROUTES)
        self.handlers.extend((path, handler, {"sampler": self._sampler}) for path, handler in preset.ROUTES)
        shared = {"jobs": self._jobs, "root": self.serverapp.root_dir if self.serverapp else ""}
        self.handlers.extend((path, handler, shared) for path, handler in sharing.ROUTES)
        self.handlers.extend([*proxy.ROUTES, *terminals.ROUTES, *adoption.ROUTES])
        owned = {"sampler": self._sampler, "roster": self._roster}
        self.handlers.extend((path, handler, {"idle": self._idle}) for path, handler in idle_handlers.ROUTES)
        self.handlers.extend((path, handler, owned) for path, handler in gpu_handlers.ROUTES)

    def _is_ours(self, kernel_name: str | None) -> bool:
        """Whether a kernel of this name is started by our provisioner."""
        assert self.serverapp is not None
        kernels = self.serverapp.kernel_manager
        specs = self.serverapp.kernel_spec_manager
        assert specs is not None
        try:
            spec = specs.get_kernel_spec(kernel_name or kernels.default_kernel_name)
        except NoSuchKernel:
            return False
        provisioner = spec.metadata.get("kernel_provisioner", {})
        return bool(provisioner.get("provisioner_name") == PROVISIONER)

    async def stop_extension(self) -> None:
        """End what the extension does; a second signal waits for the end that the first one asked for."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        """Let go of the kernels that are to outlive the server, and listen and sample no more.

        What fails in one part keeps no other from ending: a kernel that waits must not stay behind.
        """
        assert self.serverapp is not None
        adopt.let_go(self.serverapp.kernel_manager, self.log)
        self._stop_waking()
        self._feed.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        parts = (self._jobs.close, self._doctor.close, self._idle.close, self._sampler.close, self._pulse.close)
        for end in (*parts, self._pool.stop, self._given_up.close):
            try:
                await end()
            except Exception:
                self.log.exception("A part of the extension did not end well")
        if self._lock is not None:
            os.close(self._lock)


def end_in_good_order() -> None:
    """Have an interrupt end a server without a terminal as TERM does.

    Jupyter asks at a terminal; without one an interrupt breaks its loop off and leaves the kernels to themselves.
    """
    ends = signal.getsignal(signal.SIGTERM)
    if callable(ends) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, ends)


async def main_pid(container: str) -> int:
    """Return the host process id of a container's first process, as the engine has it; 0 of one that ended."""
    return int((await find.engine().inspect(container))["State"]["Pid"])
