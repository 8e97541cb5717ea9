"""The REST calls about idle kernels that hold a GPU."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .idle import Idle


class _Handler(APIHandler):
    """What the calls share."""

    auth_resource = "tfgpu"

    def initialize(self, idle: Idle) -> None:
        """Take what the app owns."""
        self._idle = idle


class IdleHandler(_Handler):
    """``GET /tfgpu/idle``: the kernels that will be shut down."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"warnings": [IdleWarning, …]}``, next to end first."""
        self.finish({"warnings": [asdict(warning) for warning in self._idle.warnings()]})


class KeepHandler(_Handler):
    """``POST /tfgpu/kernels/<kernel id>/keep``: let a kernel that is warned of be idle for the whole time anew."""

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        """Answer 204; 404 where no kernel of this id is warned of."""
        if not self._idle.keep(kernel_id):
            raise web.HTTPError(404, "No kernel of this id is about to be shut down; it may have just ended.")
        self.set_status(204)
        self.finish()


ROUTES: Final = (
    (r"/tfgpu/idle", IdleHandler),
    (r"/tfgpu/kernels/(?P<kernel_id>[\w-]+)/keep", KeepHandler),
)
