"""The REST call that shows GPUs by notebook."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .gpu_records import report
from .roster import Roster
from .sampler import Sampler


class GpusHandler(APIHandler):
    """``GET /tfgpu/gpus?since=TIME``: GPUs, who is on them, kernels, and the history after ``since``."""

    auth_resource = "tfgpu"

    def initialize(self, sampler: Sampler, roster: Roster) -> None:
        """Take what the app owns."""
        self._sampler = sampler
        self._roster = roster

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer a :class:`tfgpu_kernel.server.gpu_records.GpuReport`; 400 where ``since`` is no number."""
        try:
            since = float(self.get_query_argument("since", "0"))
        except ValueError as error:
            raise web.HTTPError(400, "since wants a time in seconds since the epoch.") from error
        moment = await self._sampler.latest()
        residents = await self._roster.residents()
        answer = report(moment, residents, self._roster.warm(), self._sampler.history, since, self._sampler.every)
        self.finish(asdict(answer))


ROUTES: Final = ((r"/tfgpu/gpus", GpusHandler),)
