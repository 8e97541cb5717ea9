"""The REST calls that show GPUs by notebook, and move a kernel to another GPU."""

from __future__ import annotations

import json
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .gpu_records import report
from .roster import Roster
from .sampler import Sampler


class _Handler(APIHandler):
    """What the calls share."""

    auth_resource = "tfgpu"

    def initialize(self, sampler: Sampler, roster: Roster) -> None:
        """Take what the app owns."""
        self._sampler = sampler
        self._roster = roster


class GpusHandler(_Handler):
    """``GET /tfgpu/gpus?since=TIME``: GPUs, who is on them, kernels, and the history after ``since``."""

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
        # asdict would copy ten minutes of points one by one: 3 ms in which nothing else is served
        self.finish(json.dumps(answer, default=vars))


class KernelGpusHandler(_Handler):
    """``PUT /tfgpu/kernels/<kernel id>/gpus``: choose the GPUs that a kernel has from its next restart on."""

    @web.authenticated
    @authorized
    async def put(self, kernel_id: str) -> None:
        """Take ``{"gpus": [UUID, …]}``; answer 204, 404 where no such kernel of ours runs, 400 for other bodies."""
        body = self.get_json_body()
        gpus = body.get("gpus") if isinstance(body, dict) else None
        if not isinstance(gpus, list) or not gpus or not all(isinstance(uuid, str) for uuid in gpus):
            raise web.HTTPError(400, 'The body wants {"gpus": [UUID, …]}.')
        if not self._roster.move(kernel_id, gpus):
            raise web.HTTPError(404, "No kernel in a container has this id; it may have just ended.")
        self.set_status(204)
        self.finish()


ROUTES: Final = (
    (r"/tfgpu/gpus", GpusHandler),
    (r"/tfgpu/kernels/(?P<kernel_id>[\w-]+)/gpus", KernelGpusHandler),
)
