"""One client connection, as uvicorn's httptools protocol with limits of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnstream.server.sending import ABORT_EXTENSION, UNSENT_EXTENSION, unsent_bytes
from turnstream.server.streams import HAND_OVER_EXTENSION, EventStream

logger = logging.getLogger(__name__)

WRITE_BUFFER = 32 * 1024
"""Bytes waiting for a socket above which its stream is paused; with the piece that comes on top, this bounds what a
watcher who takes nothing can hold."""

HEAD_LIMIT = 64 * 1024
"""Bytes of a request that are not body: its line, headers, chunk sizes with their extensions, and trailers."""
HEADERS_LIMIT = 256
"""Headers of a request that is not whole, or its trailers: each takes ten times its bytes."""
BODY_PER_FRAMING = 64
"""Bytes of a chunked body that allow one byte of framing above `HEAD_LIMIT`: chunks of 500 bytes are never refused."""
HEAD_SECONDS = 30.0
"""Seconds in which a client has to send a request's head, from the connection or the first byte on; and seconds
in which it may send a body's framing without a byte of the body."""
PIPELINE_LIMIT = 100
"""Requests of a connection that may wait for their turn. A client that sends more is cut off."""
LINGER_SECONDS = 10.0
"""Seconds in which the rest of a refused request is read and dropped: a socket that is closed with unread data is
reset, and the client would lose the answer."""


def _refusal(status: bytes, code: bytes, message: bytes) -> bytes:
    body = b'{"error":{"code":"%b","message":"%b"}}' % (code, message)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, len(body)) + body


_FRAMING_REFUSED = _refusal(
    b"431 Request Header Fields Too Large",
    b"too_large",
    b"the request's headers, chunk extensions and trailers are larger than %d bytes, or more than %d"
    % (HEAD_LIMIT, HEADERS_LIMIT),
)
_NOT_HTTP = _refusal(b"400 Bad Request", b"invalid_request", b"the request is not valid HTTP/1.1")


class _LingeringTransport:
    """The transport for a response that begins before its request is whole: closing it lingers."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = linger


class ConnectionProtocol(HttpToolsProtocol):
    """One client connection. Limits the size and time of all that is not body in a request; closes after a response
    that began before its request was whole. A response may cut the connection without flushing, or hand over its
    event stream to be served from here."""

    _extensions: dict[str, Any]
    _stream: EventStream | None = None
    _held = b""
    """What the client sent while a stream was being served: its next requests."""
    _in_head = False
    _in_body = False
    _lingering = False
    _keep_alive = True
    """True if the connection may be kept once the request under way is whole."""
    _begun = 0
    """Requests that began in the read under way."""
    _body_read = 0
    """Bytes of bodies in the read under way."""
    _framing = 0
    """Bytes of the request under way that are not body."""
    _body = 0
    """Bytes of its body."""
    _timer: asyncio.TimerHandle | None = None
    _answering: Any = None
    """The cycle of the request that is being answered; `cycle` is that of the newest request."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._extensions = {
            ABORT_EXTENSION: self.abort,
            HAND_OVER_EXTENSION: self.hand_over,
            UNSENT_EXTENSION: self.unsent,
        }
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._extensions.clear()
        self._stop_timer()
        answering, self._answering = self._answering, None
        if answering is not None and answering is not self.cycle and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._stream is not None:
            self._stream.close()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._stream is not None:
            self._hold(data)
            return
        in_head, in_body = self._in_head, self._in_body
        self._begun = self._body_read = 0
        super().data_received(data)
        if self._lingering or self.transport.is_closing():
            return
        if not (self._in_head or self._in_body):
            self._limit_idle_bytes()
            return
        if self._begun + (in_head or in_body) == 1:
            # A read that also holds earlier requests is not counted: which bytes belong to which is not known.
            self._framing += len(data) - self._body_read
        too_large = self._framing > HEAD_LIMIT + self._body // BODY_PER_FRAMING
        if too_large or len(self.headers) > HEADERS_LIMIT:
            self._refuse(_FRAMING_REFUSED)
            return
        if self._timer is None and (self._in_head or (in_body and not self._body_read)):
            self._start_timer()
        if self._in_body and not in_body:
            self._expect_close()

    def _limit_idle_bytes(self) -> None:
        """Start the head's time if a read began no request: its bytes have stopped the time for an idle connection."""
        cycle: Any = self.cycle
        if not self._begun and self._timer is None and (cycle is None or cycle.response_complete):
            self._start_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words are for no client
        self._refuse(_NOT_HTTP)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINE_LIMIT:
            raise BufferError(f"more than {PIPELINE_LIMIT} requests wait")  # stops the parser
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = True
        self._begun += 1
        self._framing = self._body = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._in_body = True
        self.headers = []  # a list of its own for the trailers: the scope never sees them

    def on_body(self, body: bytes) -> None:
        self._body_read += len(body)
        self._body += len(body)
        self._stop_timer()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_timer()
        if isinstance(self.cycle.transport, _LingeringTransport) and not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self._lingering:
            super().on_response_complete()

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
        self._stop_timer()
        cycle = self.cycle
        cycle.response_complete = True
        self.scope = cycle.scope = {"type": "http"}  # type: ignore[typeddict-item]
        self.headers = []
        self._stream = stream
        stream.cut = self.abort
        stream.unsent = self.unsent
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

    def unsent(self) -> int:
        """Return the bytes that the client has not taken yet."""
        return unsent_bytes(self.transport)

    async def send(self, data: bytes) -> None:
        """Write a piece of the stream as soon as the client takes it; one that has gone takes anything."""
        while not self.write(data) and not self.transport.is_closing():
            await self.flow.drain()

    def shutdown(self) -> None:
        """The server is to end: after the response under way, if there is one."""
        self._keep_alive = False
        if self._lingering:
            self.transport.close()
        elif self._stream is not None:
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
            self._close()
            return
        self.on_response_complete()
        held, self._held = self._held, b""
        if held:
            self.data_received(held)

    def abort(self) -> None:
        """Cut the connection now. What was not yet taken is dropped, and the response counts as over."""
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        for ended in (cycle, self._answering):
            if ended is not None:
                ended.disconnected = True
        self.transport.abort()

    def _expect_close(self) -> None:
        """Close after the response under way, unless its request becomes whole before the response begins."""
        cycle: Any = self.cycle
        self._keep_alive = cycle.keep_alive
        cycle.keep_alive = False
        cycle.transport = _LingeringTransport(self.transport, self._close)

    def _refuse(self, answer: bytes) -> None:
        """Answer the request that is being received, and close. Cut the connection if an answer is under way."""
        cycle: Any = self.cycle
        if self._in_body and not cycle.response_started and not self.pipeline:
            cycle.disconnected = True
            cycle.message_event.set()
        elif cycle is not None and not cycle.response_complete:
            self.abort()
            return
        if self._in_head or self._in_body:
            self.headers.clear()  # of the head, or the trailers: the connection may linger
        self.transport.write(answer)
        self._linger()

    def _linger(self) -> None:
        """Close, but first read and drop what the client still sends, for a while."""
        if self._lingering or self.transport.is_closing():
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingering = True
        self._unset_keepalive_if_required()
        self._stop_timer()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._start_timer(LINGER_SECONDS)

    def _close(self) -> None:
        """Close after what was written; linger if the request is not whole yet."""
        if self._in_body:
            self._linger()
        else:
            self.transport.close()

    def _start_timer(self, seconds: float | None = None) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS if seconds is None else seconds, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
