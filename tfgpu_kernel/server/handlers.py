"""The REST calls under ``/tfgpu``. Each wants a logged-in user who is allowed to use ``tfgpu``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .. import launches
from . import replay
from .feed import Feed
from .pulse import Pulse

_KERNEL: Final = r"(?P<kernel_id>[\w-]+)"


class TfgpuHandler(APIHandler):
    """What the calls share."""

    auth_resource = "tfgpu"

    def initialize(self, feed: Feed) -> None:
        """Take the feed that the app owns."""
        self.feed = feed


class LaunchesHandler(TfgpuHandler):
    """``GET /tfgpu/launches``: the launches under way, and the latest that ended."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"launches": [LaunchState, …]}``, oldest first."""
        self.finish({"launches": [asdict(state) for state in self.feed.launches()]})


class LaunchHandler(TfgpuHandler):
    """``DELETE /tfgpu/launches/<kernel id>``: cancel a launch."""

    @web.authenticated
    @authorized
    async def delete(self, kernel_id: str) -> None:
        """Answer 204 when the launch was asked to stop; 404 when none is under way."""
        launch = launches.find(kernel_id)
        if launch is None or not launch.cancel():
            raise web.HTTPError(404, "No launch of this kernel is under way; it may have just ended.")
        self.set_status(204)
        self.finish()


class DeathsHandler(TfgpuHandler):
    """``GET /tfgpu/deaths``: why kernels died lately."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"deaths": [Death, …]}``, oldest first."""
        self.finish({"deaths": [asdict(death) for death in self.feed.deaths()]})


class NoticesHandler(TfgpuHandler):
    """``GET /tfgpu/notices``: that kernels run on the CPU, or lost their GPU."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"notices": [Death, …]}``, oldest first."""
        self.finish({"notices": [asdict(notice) for notice in self.feed.notices()]})


class KeptHandler(TfgpuHandler):
    """``GET`` and ``DELETE /tfgpu/kept/<kernel id>?session=…``: what a kernel printed while no page could get it."""

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        """Answer ``{"requests": [{"cell_id", "msg_id", "whole", "messages": [{"id", "type", "content"}]}]}``."""
        key = self.kernel_manager.get_kernel(kernel_id).session.key
        page = self.get_query_argument("session", "")
        self.finish({"requests": await replay.missed(kernel_id, key, page)})

    @web.authenticated
    @authorized
    async def delete(self, kernel_id: str) -> None:
        """Answer 204: the page has it, and it is forgotten."""
        replay.taken(kernel_id, self.get_query_argument("session", ""))
        self.set_status(204)
        self.finish()


class EngineHandler(APIHandler):
    """``GET /tfgpu/engine``: whether the Docker engine answers."""

    auth_resource = "tfgpu"

    def initialize(self, pulse: Pulse) -> None:
        """Take the pulse that the app owns."""
        self.pulse = pulse

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"answering", "since", "text"}``."""
        self.finish(asdict(self.pulse.state))


ROUTES: Final = (
    (r"/tfgpu/launches", LaunchesHandler),
    (rf"/tfgpu/launches/{_KERNEL}", LaunchHandler),
    (r"/tfgpu/deaths", DeathsHandler),
    (r"/tfgpu/notices", NoticesHandler),
    (rf"/tfgpu/kept/{_KERNEL}", KeptHandler),
)
