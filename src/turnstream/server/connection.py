"""One client connection, as uvicorn's httptools protocol with limits of ours (requirements C4, K4)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnstream.server.streams import ABORT_EXTENSION, HAND_OVER_EXTENSION, EventStream

logger = logging.getLogger(__name__)

WRITE_BUFFER = 32 * 1024
"""Bytes waiting for a socket above which its stream is paused; with the piece that comes on top, this bounds what a
watcher who takes nothing can hold."""

HEAD_LIMIT = 64 * 1024
"""Bytes that a request's line and headers may have."""
HEAD_SECONDS = 30.0
"""What a client has to send them, from the connection or their first byte on."""

_HEAD_REFUSED_BODY = (
    b'{"error":{"code":"too_large","message":"the request\'s headers are larger than %d bytes"}}' % HEAD_LIMIT
)
_HEAD_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(_HEAD_REFUSED_BODY), _HEAD_REFUSED_BODY)
)


class ConnectionProtocol(HttpToolsProtocol):
    """One client connection: requests' heads have limits of size and time, a response may cut it without flushing, or
    hand its event stream over to be served from here."""

    _extensions: dict[str, Any]
    _stream: EventStream | None = None
    _held = b""
    """What the client sent while a stream was being served: its next requests."""
    _in_head = False
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._extensions = {ABORT_EXTENSION: self.abort, HAND_OVER_EXTENSION: self.hand_over}
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._extensions.clear()
        self._stop_head_timer()
        super().connection_lost(exc)
        if self._stream is not None:
            self._stream.close()

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            self._hold(data)
            return
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self._refuse_head()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abort)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = True
        self._head_size = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def hand_over(self, stream: EventStream, scope: Scope) -> bool:
        """Serve the rest of the response under way from here. For the framework its request is answered, and all that
        it kept for it is let go; the client's next request waits until the stream has ended.

        False where another request has come already, so that the response is not the last that the connection knows
        of, and where a middleware stands between: it may change bodies, or count on being there to their end.
        """
        application = self.config.app
        bare = isinstance(application, Starlette) and not application.user_middleware
        if not bare or scope.get("app") is not application or self.pipeline:
            return False
        cycle = self.cycle
        cycle.response_complete = True
        self.scope = cycle.scope = {"type": "http"}  # type: ignore[typeddict-item]
        self.headers = []
        self._stream = stream
        stream.cut = self.abort
        task = self.loop.create_task(stream.serve(self.send, self.write))
        self.tasks.add(task)
        task.add_done_callback(self._end_stream)
        return True

    def write(self, data: bytes) -> bool:
        """Write a piece of the stream, which is not empty: an empty chunk is the body's end. False, and nothing is
        written, while the client has not taken enough of what came before."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        if data:  # a chunk of no bytes would end the body
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    async def send(self, data: bytes) -> None:
        """Write a piece of the stream as soon as the client takes it; one that has gone takes anything."""
        while not self.write(data) and not self.transport.is_closing():
            await self.flow.drain()

    def shutdown(self) -> None:
        """The server is to end: after the response under way, if there is one."""
        if self._stream is not None:
            self.cycle.keep_alive = False
        else:
            super().shutdown()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HEAD_LIMIT:
            self.flow.pause_reading()

    def _end_stream(self, task: asyncio.Task[None]) -> None:
        self._stream = None
        self.tasks.discard(task)
        failed = task.cancelled() or task.exception() is not None
        if failed and not task.cancelled():
            logger.error("an event stream failed", exc_info=task.exception())
        if self.transport.is_closing():
            return
        if not failed:  # else the body is left without its end, for the client to see
            self.transport.write(b"0\r\n\r\n")
        if failed or not self.cycle.keep_alive:
            self.transport.close()
            return
        self.on_response_complete()
        held, self._held = self._held, b""
        if held:
            self.data_received(held)

    def abort(self) -> None:
        """Cut the connection now. What was not yet taken is dropped, and the response counts as over."""
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        if cycle is not None:
            cycle.disconnected = True
        self.transport.abort()

    def _refuse_head(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.abort()
            return
        self.transport.write(_HEAD_REFUSED)
        self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
