"""Event streams over HTTP: one write per wake-up (requirements A2, C4, D2, D7).

The turn that a stream shows is written elsewhere, and outlives it.

A stream lasts for minutes, and a framework's stack under it takes more memory than all the rest of it. So on our own
server the response hands its stream over to the connection and returns; elsewhere it is served in the request's task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.core.turn_events import Notice
from turnstream.dialects.native import CONTENT_TYPE, HEARTBEAT
from turnstream.errors import StoreError
from turnstream.server.keepalive import KeepAlive
from turnstream.turnlog.base import Sink
from turnstream.turnlog.subscription import Subscription

logger = logging.getLogger(__name__)

PIECE = 32 * 1024
"""Bytes given to the socket at once. A watcher whose socket takes nothing holds one piece, and the socket's buffer of as
much again; a larger frame is shared with the others that are being sent it."""

ABORT_EXTENSION = "turnstream.abort"
"""A scope extension with which our own server lets a stalled connection be cut without flushing it."""

UNSENT_EXTENSION = "turnstream.unsent"
"""A scope extension with which our own server tells how many bytes the client has not taken yet."""

HAND_OVER_EXTENSION = "turnstream.hand_over"
"""A scope extension, a `HandOver`, with which our own server serves the rest of a response itself."""

_UNREADABLE = Notice("database_error", "the catch-up could not be read: reconnect with your last id")

SendData: TypeAlias = Callable[[bytes], Awaitable[None]]
HandOver: TypeAlias = "Callable[[EventStream, Scope], bool]"
"""Takes the stream, whose response has begun in that scope; or answers False, and takes nothing."""


class EventStream:
    """One subscription being served. Leaving early, however it happens, only ends the watching.

    `idle_since`, `sending_since`: see `OpenStream`. `cut`: how to drop the connection. `unsent`: how many bytes the client
    has not taken yet; None on a server that does not tell, where only a whole piece that was taken counts.
    """

    __slots__ = (
        "_keep_alive",
        "_now",
        "_sink",
        "_subscription",
        "_unsent_before",
        "cut",
        "idle_since",
        "sending_since",
        "unsent",
    )

    def __init__(self, subscription: Subscription, keep_alive: KeepAlive) -> None:
        self.idle_since: float | None = None
        self.sending_since: float | None = None
        self.cut: Callable[[], None] = self.close
        self.unsent: Callable[[], int] | None = None
        self._unsent_before = 0
        self._subscription = subscription
        self._keep_alive = keep_alive
        self._sink: Sink | None = None
        self._now = asyncio.get_running_loop().time

    @property
    def lag(self) -> int:
        """Events that are yet to be sent."""
        return self._subscription.lag

    def nudge(self) -> None:
        self._subscription.nudge()

    def took_some(self) -> bool:
        """Return True if the client has taken bytes since the last call, or since the piece under way began."""
        if self.unsent is None:
            return False
        before, self._unsent_before = self._unsent_before, self.unsent()
        return self._unsent_before < before

    def drop(self) -> None:
        """Cut a watcher whose socket takes nothing."""
        logger.info("dropping a watcher whose connection takes nothing")
        self.cut()

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
                for piece in _pieces(data or HEARTBEAT):
                    self.sending_since, self._unsent_before = self._now(), 0
                    await send(piece)
                self.sending_since = None
                data = piece = b""  # neither is kept until there is more
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
            return subscription.log.frame(subscription.cursor.seq, _UNREADABLE)

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
        self._dropped = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        hand_over: HandOver | None = extensions.get(HAND_OVER_EXTENSION)
        if hand_over is None or not hand_over(self._stream, scope):
            abort, unsent = extensions.get(ABORT_EXTENSION), extensions.get(UNSENT_EXTENSION)
            await self._serve_here(receive, send, abort, unsent)

    async def _serve_here(
        self,
        receive: Receive,
        send: Send,
        abort: Callable[[], None] | None,
        unsent: Callable[[], int] | None,
    ) -> None:
        stream = self._stream
        task = asyncio.current_task()

        def cut() -> None:
            self._dropped = True
            if task is not None:
                task.cancel()

        async def send_data(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        stream.cut = cut
        stream.unsent = unsent
        gone = asyncio.ensure_future(_until_disconnect(receive))
        gone.add_done_callback(lambda _: stream.close())
        try:
            await stream.serve(send_data)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not self._dropped or task is None:
                raise
            task.uncancel()
            if abort is not None:
                abort()
        finally:
            stream.cut = stream.close
            gone.cancel()


def _pieces(data: bytes) -> Iterable[bytes]:
    if len(data) <= PIECE:
        return (data,)
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))


async def _until_disconnect(receive: Receive) -> Any:
    while (await receive())["type"] != "http.disconnect":
        pass
