"""A question to a server, over HTTP, that survives lost connections.

The question is sent with an idempotency key, and the answer read from the last whole frame on: so a connection may
be lost at any byte, and nothing is asked twice, lost or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from turnstream.cli.watched import NativeEvent, Question, frame_decoder, native_event
from turnstream.config import is_loopback
from turnstream.dialects.native_fold import TERMINAL_NAMES
from turnstream.errors import ConfigurationError, ConnectionFailed, TurnstreamError, Unauthorized

RETRY_DELAYS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0)
"""Seconds before each attempt to get the stream back; news starts the list anew."""
_SILENCE = 45.0
"""Seconds without a byte after which a connection counts as lost: the server sends a comment every 15."""
_LOST: NativeEvent = ("notice", {"code": "connection_lost", "message": "connection lost, resuming"})
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


def api_root(url: str) -> str:
    """Where the routes are, for the address of a server (`http://host:port`) or of routes mounted elsewhere
    (`http://host/llm`). Raises ConfigurationError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no server's address: give one like http://127.0.0.1:8089")
    path = parts.path.rstrip("/") or "/api"
    return f"{parts.scheme}://{parts.netloc}{path}"


class RemoteTurn:
    """See `Watched`. `key` is sent as a bearer token."""

    def __init__(self, question: Question, url: str, *, key: str | None = None) -> None:
        self._question = question
        self._root = api_root(url)
        self._key = key
        self._idempotency_key = str(uuid4())
        self._session: aiohttp.ClientSession | None = None
        self._chat_id = ""
        self._turn_id: str | None = None
        self._known = asyncio.Event()
        self._response: aiohttp.ClientResponse | None = None
        self._decoder = frame_decoder()
        self._last_id: str | None = None
        self._attempts = 0
        self._over = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            trust_env=not is_loopback(urlsplit(self._root).hostname or ""),
        )
        try:
            self._chat_id = (await self._ask("POST", "/chats"))["id"]
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.close()
        if self._session is not None:
            await self._session.close()

    async def next(self) -> Sequence[NativeEvent] | None:
        while not self._over:
            try:
                if self._response is None:
                    self._response = await self._open()
                data = await self._response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                return await self._lost(error)
            if not data:
                return await self._lost(None)
            if events := self._events(data):
                return events
        return None

    async def interrupt(self) -> None:
        await self._known.wait()
        await self._ask("POST", f"/turns/{self._turn_id}/interrupt")

    def _events(self, data: bytes) -> list[NativeEvent]:
        events: list[NativeEvent] = []
        for frame in self._decoder.feed(data):
            event = native_event(frame)
            events.append(event)
            if frame[2] is not None:
                self._last_id = frame[2].decode()
            if event[0] == "turn_start":
                self._turn_id = event[1]["turn_id"]
                self._known.set()
            self._over = self._over or event[0] in TERMINAL_NAMES
            self._attempts = 0
        return events

    async def _open(self) -> aiohttp.ClientResponse:
        """The stream, from the beginning or from the last frame on. Raises TurnstreamError when it is refused for
        good, an aiohttp or OS error when it may work later."""
        self._decoder = frame_decoder()
        assert self._session is not None, "enter the context first"
        if self._turn_id is None or self._last_id is None:
            question = self._question
            body: dict[str, Any] = {"turn_blocks": [{"block_type": "text", "text_content": question.text}]}
            body |= {
                name: value for name in ("model", "system") if (value := getattr(question, name)) is not None
            }
            url = f"{self._root}/chats/{self._chat_id}/turns?stream=true"
            headers = {"Idempotency-Key": self._idempotency_key}
            response = await self._session.post(url, json=body, headers=headers)
        else:
            url = f"{self._root}/turns/{self._turn_id}/stream"
            response = await self._session.get(url, headers={"Last-Event-ID": self._last_id})
        if response.status == 200:
            return response
        async with response:
            if response.status == 204:
                self._over = True
            await _raise_refusal(response)
        raise ConnectionResetError(f"the server answers {response.status}")

    async def _lost(self, error: Exception | None) -> Sequence[NativeEvent]:
        """Wait before the next attempt; raises ConnectionFailed after the last one."""
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._over:
            return []
        if self._attempts >= len(RETRY_DELAYS):
            raise ConnectionFailed(f"the connection was lost and did not come back ({_words(error)})")
        delay = RETRY_DELAYS[self._attempts]
        self._attempts += 1
        await asyncio.sleep(delay)
        return [_LOST] if self._attempts == 1 and self._turn_id is not None else []

    async def _ask(self, method: str, path: str) -> dict[str, Any]:
        assert self._session is not None, "enter the context first"
        try:
            async with self._session.request(method, self._root + path) as response:
                if response.status >= 400:
                    await _raise_refusal(response, retry=False)
                return await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionFailed(
                f"{self._root} cannot be reached ({_words(error)}): is `turnstream serve` running there?"
            ) from error


async def _raise_refusal(response: aiohttp.ClientResponse, *, retry: bool = True) -> None:
    """Raise what the server says against a request; with `retry`, nothing for a failure that may pass."""
    if retry and (response.status in _TEMPORARY or response.status < 400):
        return
    code, message = "internal_error", f"the server answers {response.status} {response.reason}"
    try:
        body: Mapping[str, Any] = await response.json(content_type=None)
        code, message = str(body["error"]["code"]), str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message += ": is this the address of a turnstream server?"
    if response.status == 401:
        raise Unauthorized(f"{message} (set TURNSTREAM_API_KEY, or name the variable with --api-key-env)")
    raise TurnstreamError(message, code=code)


def _words(error: Exception | None) -> str:
    if error is None:
        return "it was closed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or "no connection"
    return str(error) or type(error).__name__
