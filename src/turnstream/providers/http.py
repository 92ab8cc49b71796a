"""Providers over HTTP, on aiohttp: with `http_call`, the package's only client networking."""

from __future__ import annotations

import io

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from turnstream.config import Timeouts
from turnstream.errors import ConnectionFailed
from turnstream.providers.arrivals import ArrivalConnector
from turnstream.providers.endpoints import Endpoint, call_headers, call_url, split_base_url
from turnstream.providers.failures import SecretMask
from turnstream.providers.http_call import HttpCall
from turnstream.wires.base import HttpRequest, ModelRequest, Wire

READ_BUFFER = 64 * 1024
"""Bytes that wait for a slow consumer before the socket is no longer read; aiohttp holds up to twice as many."""
KEEP_ALIVE_SECONDS = 30.0

_LARGE_BODY = 1024 * 1024


class HttpProvider:
    """A provider behind a wire and a URL; see `providers.base.Provider`.

    `session`: the host application's own, which stays open; without one the provider opens its own at the first call,
    shared by all its calls, and `close` closes it. Raises ConfigurationError for a URL or key that cannot be used.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        endpoint: Endpoint,
        timeouts: Timeouts | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self.name = name
        self.wire = wire
        self.endpoint = endpoint
        self.timeouts = timeouts or Timeouts()
        self.mask = SecretMask(endpoint.api_key, endpoint.headers)
        self._base_url = split_base_url(name, endpoint.base_url)
        self._headers = call_headers(name, wire, endpoint)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=self.timeouts.connect)
        self._urls: dict[str, URL] = {}
        self._session = session
        self._owns_session = session is None
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
        if self._owns_session and self._session is not None:
            await self._session.close()

    async def send(self, request: HttpRequest, accept: str | None = None) -> aiohttp.ClientResponse:
        """Send one request and wait for the answer's headers. `accept`: a type in place of the stream's. Raises aiohttp's
        errors, and AuthenticationFailed where it could not be signed."""
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
        return await self._open_session().request(
            request.method,
            url,
            data=(body or None) if len(body) <= _LARGE_BODY else io.BytesIO(body),
            headers=headers,
            timeout=self._timeout,
            allow_redirects=False,
            read_bufsize=READ_BUFFER,
        )

    def enter(self, call: HttpCall) -> None:
        """Take note of a call, for `close`."""
        if self._closed:
            raise self._closed_error()
        self._calls.add(call)

    def leave(self, call: HttpCall) -> None:
        self._calls.discard(call)

    def _closed_error(self) -> ConnectionFailed:
        return ConnectionFailed(f"{self.name}: the provider was closed", retryable=False)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=ArrivalConnector.unlimited(keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self.endpoint.trust_env,
            )
        return self._session

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            # What a wire quoted stays as it is: a signature is made over it.
            url = URL(call_url(self._base_url, path), encoded="%" in path)
            if "?" not in path:  # what has a query is asked once
                self._urls[path] = url
        return url
