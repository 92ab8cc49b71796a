"""Providers over HTTP: where their requests go, and what goes with each."""

from __future__ import annotations

from multidict import CIMultiDict
from yarl import URL

from turnstream.config import Timeouts
from turnstream.errors import ConnectionFailed
from turnstream.providers.connecting import ConnectionPool
from turnstream.providers.connection import Connection
from turnstream.providers.endpoints import Endpoint, call_headers, call_url, split_base_url
from turnstream.providers.failures import SecretMask
from turnstream.providers.http_call import HttpCall
from turnstream.wires.base import HttpRequest, ModelRequest, Wire


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
        self._base_url = split_base_url(name, endpoint.base_url)
        self._headers = call_headers(name, wire, endpoint)
        self._urls: dict[str, URL] = {}
        self._connections = ConnectionPool(
            name,
            URL(self._base_url.geturl()),
            connect_seconds=self.timeouts.connect,
            trust_env=endpoint.trust_env,
        )
        self._calls: set[HttpCall] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"HttpProvider({self.name!r}, wire={self.wire.name!r}, base_url={self._base_url.geturl()!r})"

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
        """Send one request and wait for the answer's head. `accept`: a type in place of the stream's. The connection goes
        back by `give_back`. Raises OSError and BadAnswer, ProviderError where none could be opened, and
        AuthenticationFailed where it could not be signed."""
        url = self._url(request.path)
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

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            # What a wire quoted stays as it is: a signature is made over it.
            url = URL(call_url(self._base_url, path), encoded="%" in path)
            if "?" not in path:  # what has a query is asked once
                self._urls[path] = url
        return url
