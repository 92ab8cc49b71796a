"""Event streams over HTTP: one write per wake-up.

The turn that a stream shows is written elsewhere, and outlives it.

A stream lasts for minutes, and a framework's stack under it takes more memory than all the rest of it. So on our own
server the response hands its stream over to the connection and returns; elsewhere it is served in the request's task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.core.turn_events import Notice
from turnstream.dialects.native import CONTENT_TYPE, HEARTBEAT
from turnstream.errors import StoreError
from turnstream.server.keepalive import KeepAlive
from turnstream.server.sending import ABORT_EXTENSION as ABORT_EXTENSION  # noqa: PLC0414 - beside HAND_OVER_EXTENSION
from turnstream.server.sending import PIECE, SendData, SentBody, serve_in_task
from turnstream.turnlog.base import Sink
from turnstream.turnlog.subscription import Subscription

logger = logging.getLogger(__name__)

HAND_OVER_EXTENSION = "turnstream.hand_over"
"""A scope extension, a `HandOver`, with which our own server serves the rest of a response itself."""

_UNREADABLE = Notice("database_error", "the catch-up could not be read: reconnect with your last id")

HandOver: TypeAlias = "Callable[[EventStream, Scope], bool]"
"""Takes the stream, whose response has begun in that scope; or answers False, and takes nothing."""


class EventStream(SentBody):
    """One subscription being served. Leaving early, however it happens, only ends the watching.

    `idle_since`: see `OpenStream`.
    """

    __slots__ = ("_keep_alive", "_sink", "_subscription", "idle_since")

    receiver = "watcher"

    def __init__(self, subscription: Subscription, keep_alive: KeepAlive) -> None:
        super().__init__()
        self.idle_since: float | None = None
        self._subscription = subscription
        self._keep_alive = keep_alive
        self._sink: Sink | None = None

    @property
    def lag(self) -> int:
        """Events that are yet to be sent."""
        return self._subscription.lag

    def nudge(self) -> None:
        self._subscription.nudge()

    def close(self) -> None:
        """Nobody watches any more: `serve` returns."""
        self._subscription.close()

    async def serve(self, send: SendData, sink: Sink | None = None) -> None:
        """Send what the subscription gives, to its end; past this task, where there is a sink and it takes it."""
        subscription = self._subscription
        turn_id = subscription.log.turn_id
        logger.debug("turn %s: a watcher has joined at %s", turn_id, subscription.cursor)
        self._sink = sink
        self._keep_alive.streams.add(self)
        try:
            while (data := await self._next()) is not None:
                self.idle_since = None
                await self.send_pieces(data or HEARTBEAT, send)
                data = b""  # it is not kept until there is more
        finally:
            self._keep_alive.streams.discard(self)
            logger.debug("turn %s: a watcher has left at %s", turn_id, subscription.cursor)

    async def _next(self) -> bytes | None:
        self.idle_since = self._now()
        subscription = self._subscription
        try:
            return await subscription.next(None if self._sink is None else self._write_at_once)
        except StoreError as error:
            logger.error("a watcher's catch-up could not be read: %s", error)
            subscription.close()
            return subscription.frame(_UNREADABLE)

    def _write_at_once(self, data: bytes) -> bool:
        if self._sink is None or len(data) > PIECE or not self._sink(data):
            return False
        self.idle_since = self._now()
        return True


class EventStreamResponse(Response):
    """The response of one event stream."""

    media_type = "text/event-stream"

    def __init__(
        self, subscription: Subscription, keep_alive: KeepAlive, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(
            status_code=200,
            headers={
                "Content-Type": CONTENT_TYPE,
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",
                **(headers or {}),
            },
        )
        del self.headers["content-length"]
        self._stream = EventStream(subscription, keep_alive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        hand_over: HandOver | None = extensions.get(HAND_OVER_EXTENSION)
        if hand_over is None or not hand_over(self._stream, scope):
            await serve_in_task(self._stream, scope, receive, send)
