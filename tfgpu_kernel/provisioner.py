"""The lifecycle that jupyter_client drives, translated to containers; it decides nothing by itself.

jupyter_client's synchronous manager runs each call in whatever event loop is at hand, so nothing here
belongs to a loop: the end of a container is a future of the engine's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from jupyter_client.connect import KernelConnectionInfo

from . import autopsy, claim, ending, environment, held, launches, lease, pool, ports, sweep, vigil
from .engine import find
from .engine.base import Engine, Exit
from .engine.events import outcome
from .errors import ContainerGone, TfgpuError, unexpected
from .handover import Handover, root_of
from .launch import Kernel, Request, prepare, start
from .launches import Launch
from .lock.start import LOCK_OF, locked
from .notices import Notice
from .progress import Step
from .relapse import Relapses
from .runfolder import RunFolder
from .settings import KernelSettings
from .threads import carried_out

STOP_SECONDS: Final = 10.0
"""What a kernel gets for a graceful end: TensorFlow needs about 1 s, a busy machine several times that."""


END_SECONDS: Final = 0.5
"""How long a question whether a kernel lives waits for the end that was asked for."""


class TfgpuProvisioner(KernelSettings):
    """Runs a kernel in a TensorFlow container on the machine's GPU.

    Settings come from kernel.json (``metadata.kernel_provisioner.config``), from ``jupyter_*_config.py``
    (``c.TfgpuProvisioner.…``) and from the command line; kernel.json's win.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_info: KernelConnectionInfo = {}  # the base class shares one among all kernels
        self._engine: Engine | None = None
        self._kernel: Kernel | None = None
        self._run: RunFolder | None = None
        self._env: Mapping[str, str] = {}
        self._active = False
        self._asked_to_end = False
        self._restarting = False
        self._removing: asyncio.Task[None] | None = None
        self._failure: TfgpuError | None = None
        self._report: TfgpuError | None = None
        self._relapses = Relapses()

    # -- what jupyter_client asks ---------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel to speak of; stays true for one that died by itself until cleanup."""
        return self._active

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Judge the settings before anything is started, and prepare the environment."""
        kwargs = await super().pre_launch(**kwargs)
        kwargs["cmd"] = []  # what runs in the container is not the host's business
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel and wait until it answers.

        After an automatic restart that failed or was cancelled it doesn't raise, since the restarter would be stuck
        for ever; the kernel then counts as dead, and the restarter gives up by its own rules.

        :raises TfgpuError: with what happened and what to do.
        """
        entry = Launch(
            self.kernel_id,
            getattr(self.parent, "kernel_name", ""),
            kwargs.get("env", {}).get(environment.SESSION, ""),
            restart=self._kernel is not None,
        )
        automatic = self._restarting and not self._asked_to_end
        if automatic and self._failure is not None:
            return await self._stay_dead(self._failure)
        if automatic and self._report is not None and self._relapses.hopeless:
            self.log.error("Kernel %s is not started again: it ended each time in the same way", self.kernel_id)
            return await self._stay_dead(self._report)
        launches.enter(entry)
        self._keep_env(kwargs.get("env", {}))
        kernel = None
        try:
            kernel = await self._launch(entry, kwargs)
            await self._provide(kernel)
            await carried_out(self._look_after, kernel)
        except asyncio.CancelledError:
            cancelled = TfgpuError(
                "The start of the kernel was cancelled.", "start it again when you want it."
            )
            launches.leave(entry, Step("cancelled", "Cancelled"), cancelled)
            if automatic and self._kernel is not None:
                await self._discard(kernel)
                return await self._stay_dead(cancelled)
            await self._give_up(kernel)
            raise cancelled from None
        except Exception as raised:
            error = unexpected(raised)
            launches.leave(entry, Step("failed", error.message), error)
            foreseen = error is raised
            self.log.error("Kernel %s did not start: %s", self.kernel_id, error, exc_info=not foreseen)
            if automatic and self._kernel is not None:
                await self._discard(kernel)
                return await self._stay_dead(error)
            await self._give_up(kernel)
            if foreseen:
                raise
            raise error from raised
        launches.leave(entry, Step("ready", f"Ready after {kernel.seconds:.1f} s"))
        self._kernel, self._run = kernel, kernel.run
        self._relapses.started(by_hand=not automatic)
        self._active, self._asked_to_end, self._restarting = True, False, False
        self._failure = self._report = None
        self.connection_info = kernel.connection.host_info()
        return self.connection_info

    async def poll(self) -> int | None:
        """Return None while the kernel lives, else its exit code; answered from memory, no engine is asked."""
        if not self._active or self._kernel is None:
            return 0
        end = self._kernel.end
        if self._asked_to_end and not end.done():
            # jupyter_client asks every 0.1 s until a kernel that it told to end has ended; so it hears of it at once.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(outcome(end), END_SECONDS)
        if not end.done() or end.cancelled():
            return None
        if self._report is None and not self._asked_to_end:
            memory = self.settings().memory
            self._report = await autopsy.cause(self._kernel, end.result(), memory, self._need_engine())
            self.log.error("Kernel %s died. %s", self.kernel_id, self._report)
            self._relapses.died(self._report.message)
            await autopsy.tell(self._kernel, self.kernel_id, self._report)
        return end.result().code

    async def wait(self) -> int | None:
        """Wait for the end of the kernel's container."""
        if not self._active or self._kernel is None:
            return 0
        end = await outcome(self._kernel.end)
        self._active = False
        return end.code

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel; init passes it on."""
        if signum == 0 or self._kernel is None or self._kernel.end.done():
            return
        try:
            await self._need_engine().signal(self._kernel.container, signum)
        except ContainerGone:
            self.log.warning("Kernel %s is gone already", self.kernel_id)

    async def kill(self, restart: bool = False) -> None:
        """End the kernel at once."""
        await self._end(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel's process to end."""
        await self._end(signal.SIGTERM)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Note that the kernel's coming end is wanted."""
        self._asked_to_end = True

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the container, and with the last one the run folder."""
        self._restarting = restart
        await self._removed()
        if self._kernel is not None:
            engine, container = self._need_engine(), self._kernel.container
            ended = self._kernel.end.done()
            self._let_go(self._kernel)
            if restart and ended:  # its GPU is free, so nobody waits for the rest of it
                self._removing = asyncio.ensure_future(self._remove(engine, container))
            else:
                await self._remove(engine, container)
        self._active = False
        if not restart:
            await self._remove_run_folder()
            self._kernel = None

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Return how long a graceful end may take; jupyter_client halves it before TERM and before KILL."""
        return max(recommended, STOP_SECONDS)

    def resolve_path(self, path: str) -> str | None:
        """Return the host's path for one that the kernel named; None where the host hasn't it."""
        kernel = self._kernel
        if kernel is None:
            return None
        if path.startswith("~"):
            return None  # the kernel's home ends with it, and isn't the user's
        return kernel.mounts.outside(os.path.join(self._cwd, path))

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Return what identifies the kernel, for whoever keeps it."""
        info = await super().get_provisioner_info()
        if self._kernel is not None:
            info |= {"container": self._kernel.container, "run": str(self._kernel.run.path)}
        return info

    @property
    def container(self) -> str:
        """The id of the kernel's container; empty where there is none."""
        return self._kernel.container if self._kernel else ""

    @property
    def kernel(self) -> Kernel | None:
        """The kernel as it was launched; None before that."""
        return self._kernel

    @property
    def engine(self) -> Engine:
        """The engine that has the kernel's container.

        :raises EngineNotFound: where there is none yet, and none is to be had.
        """
        return self._need_engine()

    @property
    def run(self) -> RunFolder | None:
        """The kernel's run folder."""
        return self._run

    @property
    def death(self) -> TfgpuError | None:
        """Why the kernel died whose end nobody had asked for; None where it didn't."""
        return self._report

    def facts(self) -> dict[str, Any]:
        """Return what the kernel runs on: image, digest, GPUs, seconds from the request to ready."""
        kernel = self._kernel
        if kernel is None:
            return {}
        return {
            "image": kernel.image.requested,
            "digest": kernel.image.base_digest,
            "gpus": list(kernel.gpu.uuids),
            "seconds_to_ready": round(kernel.seconds, 2),
        }

    # -- what that takes ------------------------------------------------------------------------------

    _cwd = "/"

    async def _launch(self, entry: Launch, kwargs: dict[str, Any]) -> Kernel:
        config = await locked(self.settings(), kwargs.get("env", {}).get(LOCK_OF) or entry.notebook)
        self._cwd = os.path.abspath(kwargs.get("cwd") or os.getcwd())
        self._engine = find.engine()
        await sweep.once(self._engine, self.log)
        request = Request(
            kernel_id=self.kernel_id,
            kernel_name=entry.kernel_name,
            cwd=self._cwd,
            workspace=config.workspace or self._root_folder() or self._cwd,
            env={**ports.environment(self.kernel_id), **self._env},
            notebook=entry.notebook,
            run=self._run,
            connection=self._kernel.connection if self._kernel else None,
        )

        def report(step: Step) -> None:
            tell = self.log.warning if step.notice else self.log.info
            tell("Kernel %s: %s", self.kernel_id, step.text)
            launches.advance(entry, step)

        prepared = await prepare(request, config, self._engine, report)
        wanted = await asyncio.to_thread(claim.wish, prepared, self._engine)
        kernel = await claim.take(prepared, wanted, self._engine, report)
        if kernel is None:
            await self._removed()  # the new container has the old one's name
            kernel = await start(prepared, self._engine, report)
        pool.note(prepared, wanted, self._engine)
        return kernel

    def _root_folder(self) -> str:
        """Return the server's root folder; empty where there is no server (nbclient, papermill)."""
        return str(getattr(getattr(self.parent, "parent", None), "root_dir", "") or "")

    def _keep_env(self, env: dict[str, str]) -> None:
        """Note what the caller and kernel.json add to the server's environment; the rest stays out."""
        named = set(self.kernel_spec.env if self.kernel_spec else ())
        # A program without a server hands over what it means at each start.
        restart = self._kernel is not None and bool(self._root_folder())
        self._env = environment.again(self._env, env, named) if restart else environment.added(env, os.environ, named)

    async def _provide(self, kernel: Kernel) -> None:
        """See to what becomes of the kernel when this process ends: it ends too, or a next server takes it up."""
        root = self._root_folder()
        if not root:
            ending.own(self._need_engine(), kernel.container, kernel.run)
        left = Handover.of(kernel, self.kernel_id, root_of(root), self._cwd, self._env, self.settings())
        try:
            await carried_out(left.write, kernel.run)
            if root:  # else nobody takes it up when this process is gone, and its GPUs come free
                await lease.bind(kernel.run.path, kernel.container, self._need_engine())
        except (TfgpuError, OSError) as error:
            self.log.warning("Kernel %s can't outlive this server: %s", self.kernel_id, error)

    def _look_after(self, kernel: Kernel) -> None:
        held.hold(kernel.container, kernel.run)
        state = kernel.run.state()
        account = TfgpuError("", "")  # there is nothing to be told yet
        notice = Notice(self.kernel_id, state.kernel_name if state else "", state.notebook if state else "", account)
        vigil.begin(notice, kernel.run, kernel.gpu, (kernel.identity.host_uid, kernel.identity.host_gid))

    def resume(self, left: Handover, run: RunFolder, engine: Engine) -> KernelConnectionInfo:
        """Take up a kernel that runs and that a server before this one started; see adopt.py."""
        self._engine, self._run, self._cwd, self._env = engine, run, left.cwd, left.env
        self._kernel = left.kernel(run, engine)
        self._look_after(self._kernel)
        self._active = True
        self.connection_info = self._kernel.connection.host_info()
        return self.connection_info

    def release(self) -> None:
        """Let go of the kernel without ending it: a next server takes it up."""
        if self._kernel is not None:
            self._let_go(self._kernel)
        self._kernel, self._run, self._active = None, None, False

    def _need_engine(self) -> Engine:
        if self._engine is None:
            self._engine = find.engine()
        return self._engine

    async def _end(self, signum: signal.Signals) -> None:
        # The restarter kills before it starts anew; of a kernel that is dead already nobody asked the end.
        if self._kernel is not None and not self._kernel.end.done():
            self._asked_to_end = True
        await self.send_signal(signum)

    async def _stay_dead(self, failure: TfgpuError) -> KernelConnectionInfo:
        """Pretend a start whose kernel is dead already, so that the restarter goes on to give up.

        Its GPUs are others' from now on; a restart by hand leases some again.
        """
        assert self._kernel is not None
        self._failure = failure
        dead: Future[Exit] = Future()
        dead.set_result(Exit(1, error=failure.message))
        self._kernel = Kernel(**{**vars(self._kernel), "end": dead})
        self._active, self._report = True, failure
        await lease.release(self._kernel.run.path, self._need_engine())
        return self.connection_info

    async def _give_up(self, kernel: Kernel | None) -> None:
        """Leave nothing of a start that raised, but the folder's name where it was a restart.

        The next restart makes the folder again: clients wait on the sockets that the old connection names.
        """
        self._forget_start()
        run = self._run
        if kernel is not None:
            await self._discard(kernel)
            self._run = kernel.run
        await self._remove_run_folder()
        self._run = run if self._kernel is not None else None

    async def _discard(self, kernel: Kernel | None) -> None:
        """Remove the container of a start that failed when it answered already."""
        if kernel is not None:
            self._let_go(kernel)
            await self._remove(self._need_engine(), kernel.container)

    def _let_go(self, kernel: Kernel) -> None:
        """Forget what this process does for a kernel, and what it does with it at its own end."""
        vigil.unwatch(kernel.run)
        ending.disown(kernel.container)
        held.drop(kernel.container)
        self._need_engine().unwatch(kernel.container)

    def _forget_start(self) -> None:
        """Undo what jupyter_client leaves of a start that raised: it calls no cleanup then.

        The connection file with its key would stay, and the kernel's id would stay among the pending
        ones, which hangs the server's end while another kernel lives.
        """
        self._active = False
        manager = self.parent
        if manager is None:
            return
        manager.cleanup_connection_file()
        pending = getattr(getattr(manager, "parent", None), "_pending_kernels", None)
        if pending is not None:
            pending.pop(self.kernel_id, None)

    async def _remove(self, engine: Engine, container: str) -> None:
        try:
            await engine.remove(container)
        except TfgpuError as error:
            self.log.warning(
                "The container of kernel %s stays for now, jupyter tfgpu prune removes it: %s", self.kernel_id, error
            )

    async def _removed(self) -> None:
        """Wait until the container of the kernel before is gone."""
        removing, self._removing = self._removing, None
        # A caller without a loop of its own may come back with another one; the engine's thread ends the call all
        # the same.
        if removing is not None and removing.get_loop() is asyncio.get_running_loop():
            await removing

    async def _remove_run_folder(self) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            await lease.release(run.path, self._need_engine())
            await asyncio.to_thread(run.remove)
