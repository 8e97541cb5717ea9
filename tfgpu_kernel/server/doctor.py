"""``/tfgpu/doctor``: examine this machine while the server goes on, one examination at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ..config import AUTO
from ..engine import find
from ..engine.base import Engine
from ..errors import TfgpuError
from ..health import Finding, examine
from ..health.paste import paste
from ..health.text import verdict
from ..image.presets import reference

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examination:
    """One examination as it stands.

    ``started`` null: there was none yet; ``ended`` null: it is under way, and ``looking`` says at what. Times in
    seconds since the epoch. ``findings`` are as in :class:`tfgpu_kernel.health.findings.Finding`, ``verdict`` is
    what to mend first, and ``report`` a text to paste, without names, addresses and secrets. ``image`` is auto until
    the machine was seen.
    """

    image: str
    containers: bool = False
    started: float | None = None
    ended: float | None = None
    looking: str = ""
    findings: tuple[Finding, ...] = ()
    verdict: str = ""
    report: str = ""


class Doctor:
    """Examines, and remembers the latest examination.

    :param image: what kernels run, as it is set: a reference, a preset or auto.
    """

    def __init__(self, image: str = AUTO) -> None:
        self._image = image
        self.state = Examination(reference(image))
        self._task: asyncio.Task[None] | None = None

    def start(self, *, containers: bool) -> Examination:
        """Begin an examination, unless one is under way; return how it stands."""
        if self._task is None or self._task.done():
            self.state = Examination(reference(self._image), containers, time.time(), looking="this machine")
            self._task = asyncio.ensure_future(self._examine(containers))
        return self.state

    async def close(self) -> None:
        """End an examination that is under way; it removes its container itself."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _examine(self, containers: bool) -> None:
        engine: Engine | TfgpuError
        try:
            engine = find.engine()
        except TfgpuError as error:
            engine = error

        def tell(looking: str, findings: tuple[Finding, ...]) -> None:
            self.state = replace(self.state, looking=looking, findings=findings)

        findings: tuple[Finding, ...] = ()
        image = self.state.image
        words = "The examination broke off; the server's log says why."
        report = ""
        try:
            examined = await examine(engine, self._image, containers=containers, tell=tell)
            findings, image = examined.findings, examined.image
            words, report = verdict(findings), await paste(findings, engine, image)
        except Exception:
            log.exception("The examination of this machine broke off")
        finally:
            self.state = replace(
                self.state, image=image, ended=time.time(), looking="", findings=findings, verdict=words, report=report
            )


class DoctorHandler(APIHandler):
    """``GET`` and ``POST /tfgpu/doctor``."""

    auth_resource = "tfgpu"

    def initialize(self, doctor: Doctor) -> None:
        """Take the doctor that the app owns."""
        self.doctor = doctor

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer the :class:`Examination` that is under way, or the latest."""
        self.finish(asdict(self.doctor.state))

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Take ``{"containers": bool}``, begin an examination, and answer it; 400 for other bodies.

        With ``containers`` a container is started for the upper rungs. One that is under way is answered as it is.
        """
        body: Any = self.get_json_body()
        containers = body.get("containers", False) if isinstance(body, dict) else None
        if not isinstance(containers, bool):
            raise web.HTTPError(400, 'The body wants {"containers": true or false}.')
        self.finish(asdict(self.doctor.start(containers=containers)))


ROUTES: Final = ((r"/tfgpu/doctor", DoctorHandler),)
