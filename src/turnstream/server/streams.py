"""The responder of event streams: one ASGI send per wake-up (requirements A2, C4, D2, D7).

It runs in the task of its request and in no other; the turn it shows is written elsewhere, and outlives it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from turnstream.core.turn_events import Notice
from turnstream.dialects.native import CONTENT_TYPE, HEARTBEAT
from turnstream.errors import StoreError
from turnstream.server.keepalive import KeepAlive
from turnstream.turnlog.base import Sink
from turnstream.turnlog.subscription import Subscription

logger = logging.getLogger(__name__)

PIECE = 64 * 1024
"""Bytes given to the socket at once: what one slow watcher can hold beside its own buffer."""

ABORT_EXTENSION = "turnstream.abort"
"""A scope extension with which our own server lets a stalled connection be cut without flushing it."""

WRITE_EXTENSION = "turnstream.write"
"""A scope extension with which our own server takes a piece of a body without a task (a `Sink`)."""

_UNREADABLE = Notice("database_error", "the catch-up could not be read: reconnect with your last id")


class EventStreamResponse(Response):
    """Serves one subscription. Leaving early, however it happens, only ends the watching."""

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
        self.idle_since: float | None = None
        self.sending_since: float | None = None
        self._subscription = subscription
        self._keep_alive = keep_alive
        self._task: asyncio.Task[Any] | None = None
        self._dropped = False
        self._write: Sink | None = None
        self._now = asyncio.get_running_loop().time

    def nudge(self) -> None:
        self._subscription.nudge()

    def drop(self) -> None:
        """Cut a watcher whose socket takes nothing."""
        self._dropped = True
        if self._task is not None:
            self._task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._task = asyncio.current_task()
        self._write = scope.get("extensions", {}).get(WRITE_EXTENSION)
        gone = asyncio.ensure_future(_until_disconnect(receive))
        gone.add_done_callback(lambda _: self._subscription.close())
        self._keep_alive.streams.add(self)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._serve(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not self._dropped or self._task is None:
                raise
            self._task.uncancel()
            logger.info("dropped a watcher whose connection took nothing")
            abort: Callable[[], None] | None = scope.get("extensions", {}).get(ABORT_EXTENSION)
            if abort is not None:
                abort()
        finally:
            self._keep_alive.streams.discard(self)
            self._task = None
            gone.cancel()

    async def _serve(self, send: Send) -> None:
        subscription = self._subscription
        sink = None if self._write is None else self._write_at_once
        while True:
            self.idle_since = self._now()
            try:
                data = await subscription.next(sink)
            except StoreError as error:
                logger.error("a watcher's catch-up could not be read: %s", error)
                data = subscription.log.frame(subscription.cursor.seq, _UNREADABLE)
                subscription.close()
            self.idle_since = None
            if data is None:
                return
            self.sending_since = self._now()
            if len(data) <= PIECE:
                await send({"type": "http.response.body", "body": data or HEARTBEAT, "more_body": True})
            else:
                await self._send_pieces(send, memoryview(data))
            self.sending_since = None

    def _write_at_once(self, data: bytes) -> bool:
        if self._write is None or len(data) > PIECE or not self._write(data):
            return False
        self.idle_since = self._now()
        return True

    async def _send_pieces(self, send: Send, data: memoryview) -> None:
        for start in range(0, len(data), PIECE):
            message: Message = {
                "type": "http.response.body",
                "body": bytes(data[start : start + PIECE]),
                "more_body": True,
            }
            await send(message)
            self.sending_since = self._now()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
