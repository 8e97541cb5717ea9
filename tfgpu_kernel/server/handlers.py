"""The REST calls under ``/tfgpu``. Each wants a logged-in user who is allowed to use ``tfgpu``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.escape import json_encode

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
        """Answer ``{"requests": […]}``, each as :func:`tfgpu_kernel.server.missed.by_request` has it."""
        self.kernel_manager.get_kernel(kernel_id)  # else a 404
        found = await replay.missed(kernel_id, self.get_query_argument("session", ""))
        self.finish(await asyncio.to_thread(json_encode, {"requests": found}))  # megabytes

    @web.authenticated
    @authorized
    async def delete(self, kernel_id: str) -> None:
        """Take ``{"left": [request's id, …]}``, what the page has no cell for; the rest is forgotten. Answer 204."""
        body = self.get_json_body()
        left = body.get("left", []) if isinstance(body, dict) else []
        if not isinstance(left, list):
            raise web.HTTPError(400, "The ids of requests are a list.")
        replay.taken(kernel_id, self.get_query_argument("session", ""), [str(one) for one in left])
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
