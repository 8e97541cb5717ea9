"""The server extension's entrance: settings, and who owns what."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool

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

    def initialize_handlers(self) -> None:
        """Serve the calls."""
        self.handlers.extend((path, handler, {"feed": self._feed}) for path, handler in ROUTES)

    async def stop_extension(self) -> None:
        """Listen no more."""
        self._feed.close()
