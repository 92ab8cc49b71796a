"""Providers over HTTP: where their requests go, and what goes with each."""

from __future__ import annotations

import logging

from multidict import CIMultiDict
from yarl import URL

from turnstream.config import Timeouts
from turnstream.errors import ConnectionFailed, ProviderError
from turnstream.providers.connecting import ConnectionPool
from turnstream.providers.connection import BadAnswer, Connection
from turnstream.providers.endpoints import Addresses, Endpoint, call_headers, split_base_url
from turnstream.providers.failures import SecretMask
from turnstream.providers.http_call import HttpCall
from turnstream.providers.meanings import OverflowWords
from turnstream.providers.redirects import MOST_REDIRECTS, endless, redirected
from turnstream.wires.base import HttpRequest, ModelRequest, Wire

logger = logging.getLogger(__name__)

_NOT_HERE = frozenset({404, 405})
"""Statuses with which servers answer an address that they do not have."""


class HttpProvider:
    """A provider behind a wire and a URL; see `providers.base.Provider`.

    Its connections are opened as they are needed, shared by all its calls, and closed by `close`. Raises
    ConfigurationError for a URL or key that cannot be used.
    """

    def __init__(self, name: str, wire: Wire, endpoint: Endpoint, timeouts: Timeouts | None = None) -> None:
        self.name = name
        self.wire = wire
        self.endpoint = endpoint
        self.timeouts = timeouts or Timeouts()
        self.mask = SecretMask(endpoint.api_key, endpoint.headers)
        self.addresses = Addresses(split_base_url(name, endpoint.base_url))
        self.overflow = OverflowWords(endpoint.context_overflow)
        self._headers = call_headers(name, wire, endpoint)
        self._connections = ConnectionPool(
            name,
            URL(self.addresses.base.geturl()),
            connect_seconds=self.timeouts.connect,
            trust_env=endpoint.trust_env,
        )
        self._calls: set[HttpCall] = set()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"HttpProvider({self.name!r}, wire={self.wire.name!r}, base_url={self.addresses.base.geturl()!r})"
        )

    def stream(self, request: ModelRequest) -> HttpCall:
        """Make the call; see `Provider.stream`.

        Entering raises ProviderError where no answer begins: what the wire makes of the status, ConnectionFailed, or
        ProviderTimeout. Iterating raises ProviderTimeout (`first_token_timeout`, `idle_timeout`, `total_timeout`),
        MalformedEvent, EventTooLarge, and StreamIncomplete for a body that breaks off. A StreamError, the provider's
        own report, is not raised: it is the last event. Once the model's end marker is there, nothing that happens to
        the connection makes the answer a failure.
        """
        return HttpCall(self, request)

    async def close(self) -> None:
        """Close all connections; calls under way raise ConnectionFailed."""
        self._closed = True
        for call in tuple(self._calls):
            call.interrupt(self._closed_error())
        self._connections.close()

    async def send(self, request: HttpRequest, accept: str | None = None) -> Connection:
        """Send one request and wait for the head of its answer. The connection goes back by `give_back`.

        If the server does not know the address, and the base URL could be meant otherwise (`Addresses.other`), the other
        address is tried once.

        Args:
            accept: The media type to ask for, in place of the stream's.

        Raises OSError and BadAnswer, ProviderError if no connection can be opened, and AuthenticationFailed if the
        request cannot be signed.
        """
        connection = await self._post(self.addresses.of(request.path), request, accept)
        if connection.status not in _NOT_HERE:
            return connection
        if (other := self.addresses.other(request.path)) is None:
            return connection
        base, url = other
        try:
            second = await self._post(url, request, accept)
        except (OSError, BadAnswer, ProviderError) as error:
            logger.debug("%s cannot be asked at %s: %r", self.name, url.raw_path, error)
            return connection
        except BaseException:
            self.give_back(connection)
            raise
        if 200 <= second.status < 300 and second.content_type != "text/html":
            logger.warning("%s is asked at %s: write base_url = %r", self.name, url.raw_path, base.geturl())
            self.addresses.settle(base)
            self.give_back(connection)
            return second
        self.addresses.settle()
        self.give_back(second)
        return connection

    async def _post(self, url: URL, request: HttpRequest, accept: str | None) -> Connection:
        """Send one request, also where the server redirects it to on its own origin."""
        status = 0
        for _ in range(MOST_REDIRECTS):
            connection = await self._send_to(url, request, accept)
            if not 300 <= connection.status < 400:
                return connection
            status, location = connection.status, connection.headers.get("Location")
            self.give_back(connection)
            url = redirected(self.name, url, status, location)
        raise endless(self.name, url, status)

    async def _send_to(self, url: URL, request: HttpRequest, accept: str | None) -> Connection:
        headers = CIMultiDict(request.headers)
        headers.update(self._headers)
        if accept is not None:
            headers["Accept"] = accept
        body = request.body
        if (signer := self.endpoint.signer) is not None:
            await signer.prepare()
            self.mask.add(signer.secrets)
            headers.update(signer.sign(request.method, str(url), headers, body))
        return await self._connections.ask(request.method, url, headers, body)

    def give_back(self, connection: Connection) -> None:
        """The call is over: its connection serves another, or is cut where the answer has not come to its end."""
        self._connections.release(connection)

    def enter(self, call: HttpCall) -> None:
        """Take note of a call, for `close`."""
        if self._closed:
            raise self._closed_error()
        self._calls.add(call)

    def leave(self, call: HttpCall) -> None:
        self._calls.discard(call)

    def _closed_error(self) -> ConnectionFailed:
        return ConnectionFailed(f"{self.name}: the provider was closed", retryable=False)
