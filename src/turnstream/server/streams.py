"""Event streams over HTTP, with one write per wake-up.

A stream only watches a turn: the turn does not depend on it.

A stream stays open for minutes, and the framework's call stack needs more memory than the stream itself. So
on our own server the response hands its stream over to the connection and returns. On other servers the
request's task serves it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.dialects.native import CONTENT_TYPE, HEARTBEAT
from turnstream.errors import StoreError
from turnstream.server.keepalive import KeepAlive
from turnstream.server.sending import ABORT_EXTENSION as ABORT_EXTENSION  # noqa: PLC0414 - exported too
from turnstream.server.sending import PIECE, SendData, SentBody, serve_in_task
from turnstream.turnlog.base import Sink

logger = logging.getLogger(__name__)

HAND_OVER_EXTENSION = "turnstream.hand_over"
"""Scope extension of our own server, a `HandOver`. With it the connection serves the rest of a response."""


class StreamFormat(NamedTuple):
    """The form of an event stream on HTTP.

    Attributes:
        headers: Headers of the response, their names in lower case.
        heartbeat: Bytes that a quiet stream sends.
        must_end: True to cut the connection if the stream breaks off without its last event, because clients
            take a clean end for success.
        reconnects: True to cut the connection when the server begins to drain, because clients reconnect and
            get the whole answer. False: the stream stays open until the turn ends.
    """

    headers: Mapping[str, str]
    heartbeat: bytes
    must_end: bool = False
    reconnects: bool = False


NATIVE_FORMAT = StreamFormat(
    {
        "content-type": CONTENT_TYPE,
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
    },
    HEARTBEAT,
)


class Watcher(Protocol):
    """A source of frames for one client: a subscription in some dialect, or one of many turns."""

    @property
    def label(self) -> str:
        """Name of the watched turn or turns, for log lines."""
        ...

    @property
    def cursor(self) -> object: ...
    @property
    def at_end(self) -> bool: ...
    @property
    def lag(self) -> int: ...
    async def next(self, sink: Sink | None = None) -> bytes | memoryview | None:
        """Return the next frames, b"" if `nudge` was called, or None at the end. Raises StoreError."""
        ...

    def unreadable(self) -> bytes:
        """Return the frames that tell the client that the events cannot be read."""
        ...

    def stopping(self) -> bytes:
        """Return the frames that tell the client that the server stops, and the turn continues elsewhere."""
        ...

    def nudge(self) -> None: ...
    def close(self) -> None: ...


HandOver: TypeAlias = "Callable[[EventStream, Scope], bool]"
"""Takes over a stream whose response has started in that scope. Returns False if it does not take it over."""


class EventStream(SentBody):
    """Serves one subscription in a format.

    The end of the stream does not affect the turn, unless `on_disconnect` stops it.

    Attributes:
        idle_since: See `keepalive.ServedStream`.
        on_disconnect: Called when the client disconnects before the end.
        write_last: Writes the last piece of the stream with the end of the response, or returns False. None
            if the server cannot do so.
    """

    __slots__ = (
        "_drains",
        "_format",
        "_keep_alive",
        "_sink",
        "_subscription",
        "idle_since",
        "on_disconnect",
        "write_last",
    )

    receiver = "watcher"

    def __init__(self, subscription: Watcher, keep_alive: KeepAlive, form: StreamFormat) -> None:
        super().__init__()
        self._format = form
        self.idle_since: float | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.write_last: Callable[[bytes], bool] | None = None
        self._subscription = subscription
        self._keep_alive = keep_alive
        self._sink: Sink | None = None
        self._drains = False

    @property
    def lag(self) -> int:
        """Number of events that are not sent yet."""
        return self._subscription.lag

    def nudge(self) -> None:
        self._subscription.nudge()

    def drain(self) -> None:
        """Cut the connection soon if its client reconnects, because the server stops. The turn continues."""
        if self._format.reconnects:
            self._drains = True
            self.on_disconnect = None  # the server cuts the connection: the client has not left
            self.nudge()

    def last_words(self) -> bytes:
        return b"" if self._format.must_end or self._subscription.at_end else self._subscription.stopping()

    def close(self) -> None:
        """Close the subscription, because the watcher has disconnected. `serve` returns."""
        if self.on_disconnect is not None and not self._subscription.at_end:
            self.on_disconnect()
        self._subscription.close()

    async def serve(self, send: SendData, sink: Sink | None = None) -> None:
        """Send the subscription's frames until its end.

        `sink`: writes frames directly, without waking this task, while it returns True. None: this task
        writes all.
        """
        subscription = self._subscription
        label = subscription.label
        logger.debug("%s: a watcher has joined at %s", label, subscription.cursor)
        self._sink = sink
        self._keep_alive.streams.add(self)
        try:
            while (data := await self._next()) is not None:
                self.idle_since = None
                if data and subscription.at_end and self._written_last(data):
                    break
                await self.send_pieces(data or self._format.heartbeat, send)
                data = b""  # frees the memory while this task waits
                if self._drains:
                    break
            if self._format.must_end and not subscription.at_end:
                self.cut()
        finally:
            self._keep_alive.streams.discard(self)
            logger.debug("%s: a watcher has left at %s", label, subscription.cursor)
            subscription.close()

    def _written_last(self, data: bytes | memoryview) -> bool:
        """Write the last piece with the end of the response. Return False if that is not possible."""
        return self.write_last is not None and len(data) <= PIECE and self.write_last(bytes(data))

    async def _next(self) -> bytes | memoryview | None:
        self.idle_since = self._now()
        subscription = self._subscription
        try:
            return await subscription.next(None if self._sink is None else self._write_at_once)
        except StoreError as error:
            logger.error("a watcher's catch-up could not be read: %s", error)
            last = subscription.unreadable()
            subscription.close()
            return last

    def _write_at_once(self, data: bytes) -> bool:
        if self._sink is None or len(data) > PIECE or not self._sink(data):
            return False
        self.idle_since = self._now()
        return True


class UnsizedResponse(Response):
    """A response of unknown length. Its headers have the content type."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Encode the headers, and no others."""
        given = headers or {}
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()
        ]


class EventStreamResponse(UnsizedResponse):
    """The response of one event stream."""

    media_type = "text/event-stream"

    def __init__(
        self,
        subscription: Watcher,
        keep_alive: KeepAlive,
        *,
        headers: Mapping[str, str] | None = None,
        form: StreamFormat = NATIVE_FORMAT,
        on_disconnect: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(status_code=200, headers={**form.headers, **(headers or {})})
        self._stream = EventStream(subscription, keep_alive, form)
        self._stream.on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        hand_over: HandOver | None = extensions.get(HAND_OVER_EXTENSION)
        if hand_over is None or not hand_over(self._stream, scope):
            await serve_in_task(self._stream, scope, receive, send)
