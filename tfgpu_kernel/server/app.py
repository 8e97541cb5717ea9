"""The server extension's entrance: settings, and who owns what."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets import Bool

from .. import adopt
from . import sessions
from .feed import Feed
from .handlers import ROUTES

_SCHEMAS: Final = Path(__file__).parent / "events"


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

        self._feed = Feed(self.serverapp.root_dir, asyncio.get_event_loop(), emit)
        # Before the first request can list kernels or sessions: both forget what they don't find then.
        self._lock = sessions.persist(self.serverapp.session_manager, self.serverapp.root_dir)
        self._adopted = self._take_up_kernels()

    def _take_up_kernels(self) -> Sequence[adopt.Adopted]:
        """Take up the kernels that a former server left; whatever goes wrong with that, the server starts."""
        assert self.serverapp is not None
        try:
            return adopt.all_of(self.serverapp.kernel_manager, self.serverapp.root_dir, self.log)
        except Exception:
            self.log.exception("Kernels of a former server could not be taken up")
            return ()

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Go on where the loop runs."""
        await sessions.complete(serverapp.session_manager, self._adopted, serverapp.root_dir)

    def initialize_handlers(self) -> None:
        """Serve the calls."""
        self.handlers.extend((path, handler, {"feed": self._feed}) for path, handler in ROUTES)

    async def stop_extension(self) -> None:
        """Listen no more, and let go of the kernels that are to outlive the server."""
        assert self.serverapp is not None
        self._feed.close()
        adopt.let_go(self.serverapp.kernel_manager, self.log)
        if self._lock is not None:
            os.close(self._lock)
