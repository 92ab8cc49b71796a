"""A server in the process of one window, for `turnstream chat --in-process`."""

from __future__ import annotations

import asyncio
import secrets
import threading
from types import TracebackType
from typing import Self

from turnstream.config import Settings
from turnstream.engine import Engine
from turnstream.errors import TurnstreamError
from turnstream.server.auth import key_required
from turnstream.server.uvicorn_server import DrainingServer, address_of, bind, draining_server
from turnstream.terminal.server_connection import ServerAccess

START_SECONDS = 30.0
STOP_SECONDS = 4.0
"""Seconds that the server has to end. The window must not wait longer, even if a provider hangs."""
_HOST = "127.0.0.1"


class InProcessServer:
    """Serves an engine in a thread with its own event loop, within the `with` block.

    Args:
        settings: The settings of the engine.
        database_url: URL of its database.
    """

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._database_url = database_url
        self._key = secrets.token_hex(32)
        self._sockets = bind(_HOST, 0)
        self._listening = threading.Event()
        self._failure: BaseException | None = None
        self._server: DrainingServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_SECONDS) and self._failure is None:
            self._failure = TurnstreamError("the server did not start", code="not_started")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._server is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.end_by_signal)
            self._thread.join(STOP_SECONDS)

    @property
    def access(self) -> ServerAccess:
        """The server's address and its key."""
        return ServerAccess(address_of(self._sockets, _HOST), self._key)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised in the window's thread
            self._failure = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        engine = Engine.from_settings(
            self._settings,
            store_url=self._database_url,
            authenticate=key_required(self._key),
            drain_seconds=None,
        )
        async with engine:
            await engine.load_prices()
            self._server = draining_server(
                engine.application(), drain=engine.drain, grace=0.0, on_listening=self._listening.set
            )
            await self._server.serve(list(self._sockets))
