"""``POST /tfgpu/adopt/<kernel id>``: take up a kernel that a former server left, whichever root folder that had."""

from __future__ import annotations

from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .. import adopt
from ..errors import TfgpuError
from ..handover import root_of
from . import replay, sessions
from .records import contents_path


class AdoptionHandler(APIHandler):
    """Takes up a kernel of the user's that runs without a server."""

    auth_resource = "tfgpu"

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        """Answer ``{"kernel_id", "path"}``, the path as the Contents API has it; 404 where there is no such kernel."""
        assert self.serverapp is not None
        root = self.serverapp.root_dir
        try:
            adopted = await adopt.one(self.kernel_manager, root, kernel_id, self.log)
        except TfgpuError as error:
            raise web.HTTPError(404, error.message) from error
        replay.await_pages(self.kernel_manager, [adopted])
        await sessions.complete(self.session_manager, [adopted], root)
        self.finish({"kernel_id": kernel_id, "path": contents_path(adopted.state.notebook, root_of(root))})


ROUTES: Final = ((r"/tfgpu/adopt/(?P<kernel_id>[\w-]+)", AdoptionHandler),)
