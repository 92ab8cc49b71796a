"""Requests to one server with aiohttp. Answers are typed values, and requests are retried if that is safe."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from turnstream.client.refusals import TEMPORARY, WITHOUT_EFFECT, connection_failure, refusal
from turnstream.client.retrying import Backoff, Retry, retry_after_seconds
from turnstream.core.admission import plain_request_json, repair_text
from turnstream.errors import ConfigurationError, NotFound, TooLarge, TurnstreamError
from turnstream.forking import keep_unused, renew_after_fork

ANSWER_LIMIT = 256 * 1024 * 1024
"""Largest JSON answer, in bytes."""
ERROR_LIMIT = 64 * 1024
READ_BUFFER = 64 * 1024
"""Bytes that are buffered for a slow reader before reading pauses. aiohttp buffers up to twice as many."""
KEEP_ALIVE_SECONDS = 30.0

Answer = TypeVar("Answer")


class Request(NamedTuple):
    """One HTTP request.

    `body`: sent as JSON. Lone surrogates in its text are replaced with U+FFFD. None: no body.
    `repeatable`: True if the request is idempotent.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}
    repeatable: bool = True


def api_root(url: str) -> str:
    """Return the URL of the routes.

    `url`: a server (`http://host:port`), or routes that a host application mounts (`http://host/llm`). Raises
    ConfigurationError if it is not a URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is not the URL of a server: give one like http://127.0.0.1:8089")
    path = parts.path.rstrip("/") or "/api"
    return f"{parts.scheme}://{parts.netloc}{path}"


def path_part(text: str) -> str:
    """Return `text` quoted as one part of a path.

    Raises NotFound if it is empty, because an empty part would change the path.
    """
    if not text:
        raise NotFound("the id is empty: give the id of a chat or a turn")
    return quote(repair_text(text), safe="")


class OpenStream(Protocol):
    """A response that holds a connection."""

    def close(self) -> None:
        """Close the connection."""
        ...

    def forget(self) -> object:
        """Give up the response, and return it. Its connection stays open."""
        ...


class Connections:
    """The aiohttp session of all requests.

    `session`: the application's session, which is not closed. None: a session is opened at the first request.
    """

    def __init__(self, session: aiohttp.ClientSession | None, *, trust_env: bool) -> None:
        self.streams: set[OpenStream] = set()
        """Streams that hold a connection. They close with the client."""
        self._session = session
        self._trust_env = trust_env
        self._owned: aiohttp.ClientSession | None = None
        self._closed = False
        renew_after_fork(self)

    def renew_in_child(self) -> None:
        """Drop the session and the connections of the parent process. Streams reconnect and resume."""
        keep_unused(self._owned, *(stream.forget() for stream in self.streams))
        self.streams.clear()
        self._owned = None

    def open(self) -> aiohttp.ClientSession:
        """Return the session. Raises TurnstreamError after `close`."""
        if self._closed:
            raise TurnstreamError("the client was closed: make another one", code="client_closed")
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
            await asyncio.sleep(0)  # lets the transports' callbacks run


class Transport(NamedTuple):
    """The address of one server, with headers, retry settings and connections."""

    root: str
    headers: Mapping[str, str]
    retry: Retry
    connections: Connections

    async def ask(self, request: Request, answer: type[Answer]) -> Answer:
        """Send a request, retry it if that is safe, and return its answer.

        `answer`: the type to decode. `bytes` returns the body unchanged.

        Raises the server's error as an error of `turnstream.errors`, or ConnectionFailed if the server is
        unavailable for longer than `retry.budget`.
        """
        body = await self._body(request)
        if answer is bytes:
            return body  # type: ignore[return-value]
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TurnstreamError(
                f"{self.root}{request.path} returned an unexpected answer ({error}): is it the "
                "URL of a turnstream server?",
                code="unexpected_answer",
            ) from error

    async def open_stream(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a GET and return its response. The caller reads and closes it.

        Raises aiohttp's errors, OSError or TimeoutError if the connection fails.
        """
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
        request = plain_request_json(request, "the request")
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
                    again = TEMPORARY if request.repeatable else WITHOUT_EFFECT
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

    def _sent(
        self,
        request: Request,
    ) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        body, typed = None, {}
        if request.body is not None:
            # A file-like body is sent in pieces: a large one as bytes would hold up the event loop.
            body, typed = BytesIO(json.dumps(request.body).encode()), {"Content-Type": "application/json"}
        return self.connections.open().request(
            request.method,
            self.root + request.path,
            data=body,
            headers={**self.headers, **typed, **request.headers},
            timeout=aiohttp.ClientTimeout(total=None, connect=self.retry.connect),
            allow_redirects=False,
        )


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the complete body.

    Raises TooLarge if it exceeds `limit` bytes, and the errors of the connection.
    """
    body = bytearray()
    while data := await response.content.readany():
        body += data
        if len(body) > limit:
            raise TooLarge(
                f"the server's answer has more than {limit} bytes: read it in pages (`limit`, `before`)",
                code="answer_too_large",
            )
    return bytes(body)
