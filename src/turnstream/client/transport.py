"""Requests to one server, on aiohttp: answered as typed values, tried again where that is safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from turnstream.client.refusals import NOTHING_MADE, TEMPORARY, connection_failure, refusal
from turnstream.client.retrying import Backoff, Retry, retry_after_seconds
from turnstream.core.admission import admitted_request, mended
from turnstream.errors import ConfigurationError, NotFound, TooLarge, TurnstreamError
from turnstream.forking import keep_unused, renew_after_fork

ANSWER_LIMIT = 256 * 1024 * 1024
"""Bytes of one JSON answer."""
ERROR_LIMIT = 64 * 1024
READ_BUFFER = 64 * 1024
"""Bytes that wait for a slow consumer before the socket is no longer read; aiohttp holds up to twice as many."""
KEEP_ALIVE_SECONDS = 30.0

Answer = TypeVar("Answer")


class Request(NamedTuple):
    """`body`: sent as JSON, half surrogates in its text as U+FFFD. `repeatable`: sending it twice does no more than sending it once."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}
    repeatable: bool = True


def api_root(url: str) -> str:
    """Where the routes are, for the address of a server (`http://host:port`) or of routes mounted elsewhere
    (`http://host/llm`). Raises ConfigurationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no server's address: give one like http://127.0.0.1:8089")
    path = parts.path.rstrip("/") or "/api"
    return f"{parts.scheme}://{parts.netloc}{path}"


def path_part(text: str) -> str:
    """`text` as one part of a path. Raises NotFound for an empty one, which would name something else."""
    if not text:
        raise NotFound("an empty id names nothing")
    return quote(mended(text), safe="")


class OpenStream(Protocol):
    """A response that holds a connection."""

    def close(self) -> None:
        """Close the connection."""
        ...

    def forget(self) -> object:
        """Return the response, and use it no more, without closing its connection."""
        ...


class Connections:
    """The session through which all requests go.

    `session`: the application's own, which stays open; without one a session is opened at the first request.
    """

    def __init__(self, session: aiohttp.ClientSession | None, *, trust_env: bool) -> None:
        self.streams: set[OpenStream] = set()
        """Those that hold a connection: they are closed with the client."""
        self._session = session
        self._trust_env = trust_env
        self._owned: aiohttp.ClientSession | None = None
        self._closed = False
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """See `Renewable`. The session and its connections are the parent's; a stream connects again where it was."""
        keep_unused(self._owned, *(stream.forget() for stream in self.streams))
        self.streams.clear()
        self._owned = None

    def open(self) -> aiohttp.ClientSession:
        """Raises TurnstreamError after `close`."""
        if self._closed:
            raise TurnstreamError("the client was closed", code="client_closed")
        if self._session is not None:
            return self._session
        if self._owned is None:
            self._owned = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._owned

    async def close(self) -> None:
        self._closed = True
        for stream in tuple(self.streams):
            stream.close()
        owned, self._owned = self._owned, None
        if owned is not None:
            await owned.close()
            await asyncio.sleep(0)  # the transports' own callbacks


class Transport(NamedTuple):
    """One server's address, how to speak to it, and the connections."""

    root: str
    headers: Mapping[str, str]
    retry: Retry
    connections: Connections

    async def ask(self, request: Request, answer: type[Answer]) -> Answer:
        """Send a request and read its answer; `bytes` is the body as it is.

        Raises what the server says as an error of our tree, ConnectionFailed once it has been away for too long.
        """
        body = await self._body(request)
        if answer is bytes:
            return body  # type: ignore[return-value]
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TurnstreamError(
                f"{self.root}{request.path} answers something else than expected ({error}): is this the address of a "
                "turnstream server?",
                code="unexpected_answer",
            ) from error

    async def open_stream(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """A GET whose body is for the caller to read and close. Raises aiohttp's errors, OSError, TimeoutError."""
        retry = self.retry
        return await self.connections.open().get(
            self.root + path,
            headers={
                **self.headers,
                "Accept": "text/event-stream",
                "Accept-Encoding": "identity",
                "Cache-Control": "no-store",
                **headers,
            },
            timeout=aiohttp.ClientTimeout(total=None, connect=retry.connect, sock_read=retry.idle),
            read_bufsize=READ_BUFFER,
            allow_redirects=False,
        )

    async def _body(self, request: Request) -> bytes:
        request = admitted_request(request, "the request")
        backoff = Backoff(self.retry)
        while True:
            began = time.monotonic()
            retry_after: float | None = None
            try:
                async with asyncio.timeout(self.retry.request), self._sent(request) as response:
                    body = await read_body(response, ANSWER_LIMIT if response.status < 400 else ERROR_LIMIT)
                    if 200 <= response.status < 300:
                        return body
                    failure = refusal(response, body)
                    again = TEMPORARY if request.repeatable else NOTHING_MADE
                    if response.status not in again:
                        raise failure
                    retry_after = retry_after_seconds(response.headers.get("Retry-After"))
            except (aiohttp.ClientError, OSError) as error:
                failure = connection_failure(self.root, error, during="cannot be reached")
                failure.__cause__ = error
                unsent = isinstance(error, aiohttp.ClientConnectorError)
                if not failure.retryable or not (request.repeatable or unsent):
                    raise failure from error
            backoff.failed(failure, seconds=time.monotonic() - began, retry_after=retry_after)
            await backoff.pause()

    def _sent(self, request: Request) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        return self.connections.open().request(
            request.method,
            self.root + request.path,
            json=request.body,
            headers={**self.headers, **request.headers},
            timeout=aiohttp.ClientTimeout(total=None, connect=self.retry.connect),
            allow_redirects=False,
        )


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body. Raises TooLarge, and what reading it raises."""
    body = bytearray()
    while data := await response.content.readany():
        body += data
        if len(body) > limit:
            raise TooLarge(
                f"the server's answer has more than {limit} bytes: read it in pages (`limit`, `before`)",
                code="answer_too_large",
            )
    return bytes(body)
