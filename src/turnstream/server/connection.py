"""One client connection: uvicorn's httptools protocol with additional limits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnstream.server.sending import ABORT_EXTENSION, UNSENT_EXTENSION, unsent_bytes
from turnstream.server.streams import HAND_OVER_EXTENSION, EventStream

logger = logging.getLogger(__name__)

WRITE_BUFFER = 32 * 1024
"""Bytes in a socket's write buffer above which its stream is paused.

Together with the piece that is written last, this bounds the memory of a watcher that does not read.
"""

HEAD_LIMIT = 64 * 1024
"""Bytes of a request besides its body: request line, headers, chunk sizes with extensions, and trailers."""
HEADERS_LIMIT = 256
"""Headers, or trailers, of a request that is being received. In memory, each takes ten times its bytes."""
BODY_PER_FRAMING = 64
"""Bytes of a chunked body that allow one more byte of framing above `HEAD_LIMIT`.

Chunks of 500 bytes are never refused.
"""
HEAD_SECONDS = 30.0
"""Seconds that a client has to send a request's head, counted from the connection or the first byte.

Also the seconds in which it may send chunk framing without a byte of the body.
"""
JOINED = 8 * 1024
"""Bytes of a response above which they are written at once. Fewer wait for those that follow at once."""
PIPELINE_LIMIT = 100
"""Pipelined requests that may wait on a connection. The connection of a client that sends more is cut."""
LINGER_SECONDS = 10.0
"""Seconds during which the rest of a refused request is read and discarded.

The kernel resets a socket that is closed with unread data, and the client would lose the answer.
"""


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


class _ResponseTransport:
    """Transport of a response: its writes may be joined.

    `lingers`: True if the response may begin before its request is complete. See `close_lingering`.
    """

    __slots__ = ("close", "is_closing", "lingers", "write")

    def __init__(self, connection: ConnectionProtocol, *, lingers: bool) -> None:
        self.write = connection.write_soon
        self.is_closing = connection.transport.is_closing
        self.close = connection.close_lingering if lingers else connection.close_flushed
        self.lingers = lingers


class ConnectionProtocol(HttpToolsProtocol):
    """One client connection.

    It limits the size and the time of a request's head and framing. It closes after a response that began
    before its request was complete. A response may cut the connection without flushing, or hand over its
    event stream to be served by the connection.
    """

    _extensions: dict[str, Any]
    _stream: EventStream | None = None
    _held = b""
    """Bytes that the client sent while a stream was served: its next requests."""
    _in_head = False
    _in_body = False
    _lingering = False
    _keep_alive = True
    """True if the connection may stay open after the current request is complete."""
    _begun = 0
    """Requests that began in the current read."""
    _body_read = 0
    """Body bytes in the current read."""
    _framing = 0
    """Bytes of the current request besides its body."""
    _body = 0
    """Bytes of the current request's body."""
    _timer: asyncio.TimerHandle | None = None
    _unwritten = b""
    """Bytes of a response that wait for the next bytes, until the next turn of the event loop at most."""
    _flushing: asyncio.Handle | None = None
    _answering: Any = None
    """Cycle of the request that is being answered. `cycle` belongs to the newest request."""

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
        self._unwritten = b""
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
            # A read that spans several requests is not counted: its bytes cannot be assigned to one of them.
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
        """Start the head's deadline if a read began no request: the read has stopped uvicorn's idle timer."""
        cycle: Any = self.cycle
        if not self._begun and self._timer is None and (cycle is None or cycle.response_complete):
            self._start_timer()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - clients do not see the parser's message
        self._refuse(_NOT_HTTP)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        if not isinstance(cycle.transport, _ResponseTransport):
            cycle.transport = _ResponseTransport(self, lingers=False)
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
        self.headers = []  # a new list for the trailers, so that the scope never sees them

    def on_body(self, body: bytes) -> None:
        self._body_read += len(body)
        self._body += len(body)
        self._stop_timer()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_timer()
        transport: Any = self.cycle.transport
        if getattr(transport, "lingers", False) and not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self._lingering:
            super().on_response_complete()

    def hand_over(self, stream: EventStream, scope: Scope) -> bool:
        """Take over the current response and serve the rest of `stream` from the connection.

        The framework considers its request answered and frees its memory. The client's next request waits
        until the stream ends. Return False, and take nothing over, if

        - another request has arrived, so that the response is not the newest of the connection,
        - the application has middleware, which may change bodies or need to run until they end.
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
        stream.write_last = self.write_last
        if self.transport.is_closing():  # the client left before the response began
            stream.close()
        task = self.loop.create_task(stream.serve(self.send, self.write))
        if self._unwritten:  # the head goes with the stream's first frames, if there are some already
            self._flush_later()
        self.tasks.add(task)
        task.add_done_callback(self._end_stream)
        return True

    def write(self, data: bytes) -> bool:
        """Write a piece of the stream. Return False, and write nothing, while the write buffer is full."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        if data:  # a chunk of no bytes would end the body
            chunk = b"%x\r\n%b\r\n" % (len(data), data)
            if self._unwritten:
                self._flush(chunk)
            else:
                self.transport.write(chunk)
        return True

    def write_last(self, data: bytes) -> bool:
        """Keep the last piece of the stream, which is written with the end of the response.

        Return False, and keep nothing, while the write buffer is full.
        """
        if self.flow.write_paused or self.transport.is_closing():
            return False
        self._unwritten += b"%x\r\n%b\r\n" % (len(data), data)
        return True

    def write_soon(self, data: bytes) -> None:
        """Write bytes of a response together with those that follow in the same turn of the event loop."""
        if self._unwritten or len(data) > JOINED:
            self._flush(data)
        else:
            self._unwritten = data
            self._flush_later()

    def _flush_later(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        self._flushing = self.loop.call_soon(self._flush)

    def _flush(self, data: bytes = b"") -> None:
        """Write the bytes that wait, and `data`."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        waiting, self._unwritten = self._unwritten, b""
        if waiting or data:
            self.transport.write(waiting + data)

    def unsent(self) -> int:
        """Return the number of bytes that the client has not received yet."""
        return len(self._unwritten) + unsent_bytes(self.transport)

    async def send(self, data: bytes) -> None:
        """Write a piece of the stream once the write buffer has room.

        Discard it if the connection is closing.
        """
        while not self.write(data) and not self.transport.is_closing():
            await self.flow.drain()

    def shutdown(self) -> None:
        """Close the connection, after the current response if there is one, because the server stops."""
        self._keep_alive = False
        if self._lingering:
            self.close_flushed()
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
        # A failed stream has no last chunk, so the client sees that it is incomplete.
        self._flush(b"" if failed else b"0\r\n\r\n")
        if failed or not self.cycle.keep_alive:
            self.close_lingering()
            return
        self.on_response_complete()
        held, self._held = self._held, b""
        if held:
            self.data_received(held)

    def abort(self) -> None:
        """Cut the connection now. Discard unsent bytes, and mark the response as disconnected."""
        cycle: Any = self.cycle  # None before the first request, in spite of its annotation
        for ended in (cycle, self._answering):
            if ended is not None:
                ended.disconnected = True
        self._unwritten = b""
        self.transport.abort()

    def _expect_close(self) -> None:
        """Close after the current response, unless its request is complete before the response begins."""
        cycle: Any = self.cycle
        self._keep_alive = cycle.keep_alive
        cycle.keep_alive = False
        cycle.transport = _ResponseTransport(self, lingers=True)

    def _refuse(self, answer: bytes) -> None:
        """Answer the request that is being received, and close.

        Cut the connection if an answer is in progress.
        """
        cycle: Any = self.cycle
        if self._in_body and not cycle.response_started and not self.pipeline:
            cycle.disconnected = True
            cycle.message_event.set()
        elif cycle is not None and not cycle.response_complete:
            self.abort()
            return
        if self._in_head or self._in_body:
            self.headers.clear()  # frees the memory of the head or the trailers while the connection lingers
        self._flush(answer)
        self._linger()

    def _linger(self) -> None:
        """Read and discard further bytes from the client for up to `LINGER_SECONDS`, then close."""
        if self._lingering or self.transport.is_closing():
            return
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingering = True
        self._unset_keepalive_if_required()
        self._stop_timer()
        self._flush()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._start_timer(LINGER_SECONDS)

    def close_lingering(self) -> None:
        """Close after the written bytes are flushed. Linger if the request is not complete yet."""
        if self._in_body:
            self._linger()
        else:
            self.close_flushed()

    def close_flushed(self) -> None:
        """Close after the written bytes are flushed."""
        self._flush()
        self.transport.close()

    def _start_timer(self, seconds: float | None = None) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS if seconds is None else seconds, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
