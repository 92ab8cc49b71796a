"""The client of a window, and the way to a server that has gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import aiohttp

from turnstream.client import AsyncClient, Retry
from turnstream.errors import ConnectionFailed

RETRY = Retry(max_delay=1.0, budget=3.0, idle=45.0)
"""Short attempts: the window itself tries again, and shows that it does."""
_HOST = "http://localhost"
"""Address in the requests that go through a socket of the file system."""

Answer = TypeVar("Answer")


class ServerAccess(NamedTuple):
    """The address of a server.

    Args:
        url: URL of the server. Empty if it listens at `socket_path`.
        key: Sent as a bearer token. None: no token.
        socket_path: Path of the server's Unix socket. None: the server listens at `url`.
    """

    url: str = ""
    key: str | None = None
    socket_path: str | None = None


class ServerConnection:
    """Holds the client of one server. Make it within an event loop.

    Args:
        access: The server.
        restart: Starts the server again if it was lost. None: the window waits until it is back.
    """

    def __init__(self, access: ServerAccess, restart: Callable[[], Awaitable[None]] | None = None) -> None:
        self._restart = restart
        self._session: aiohttp.ClientSession | None = None
        if access.socket_path is not None:
            connector = aiohttp.UnixConnector(access.socket_path, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self.client = AsyncClient(access.url or _HOST, api_key=access.key, session=self._session, retry=RETRY)

    async def recover(self) -> None:
        """Start the server again, if this window can. Raises TurnstreamError if it does not start."""
        if self._restart is not None:
            await self._restart()

    async def ask(self, request: Callable[[AsyncClient], Awaitable[Answer]]) -> Answer:
        """Return the answer to a request. If the server is gone, start it again, and repeat the request.

        `request`: May be called twice: a request that starts a turn has its own idempotency key.
        """
        try:
            return await request(self.client)
        except ConnectionFailed:
            if self._restart is None:
                raise
            await self._restart()
            return await request(self.client)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()
        if self._session is not None:
            await self._session.close()
