"""``POST /tfgpu/kernels/<kernel id>/terminal``: a terminal of Jupyter's that runs in a kernel's container."""

from __future__ import annotations

import sys
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ..provisioner import TfgpuProvisioner


class TerminalHandler(APIHandler):
    """Makes terminals."""

    auth_resource = "terminals"

    @web.authenticated
    @authorized
    async def post(self, kernel_id: str) -> None:
        """Answer the new terminal's model, as Jupyter's own call for terminals does."""
        if kernel_id not in self.kernel_manager:
            raise web.HTTPError(404, "There is no such kernel.")
        provisioner = self.kernel_manager.get_kernel(kernel_id).provisioner
        if not isinstance(provisioner, TfgpuProvisioner) or not provisioner.container:
            raise web.HTTPError(404, "This kernel runs in no container.")
        terminals = self.settings.get("terminal_manager")
        if terminals is None or not self.settings.get("terminals_available"):
            raise web.HTTPError(404, "This server has no terminals; see ServerApp.terminals_enabled.")
        command = [sys.executable, "-m", "tfgpu_kernel.cli", "exec", "-it", provisioner.container]
        self.finish(terminals.create(shell_command=command))


ROUTES: Final = ((r"/tfgpu/kernels/(?P<kernel_id>[\w-]+)/terminal", TerminalHandler),)
