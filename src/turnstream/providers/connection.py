"""One HTTP/1.1 connection to a provider: requests one after another, and their answers as they arrive.

The parser (httptools) appends the bytes of a body to a list, and the reader takes them from there: no task
and no future is between the socket and the reader. `connecting` opens connections and keeps them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

READ_BUFFER = 64 * 1024
"""Bytes to buffer for a slow reader before the socket is paused. One read of the socket comes on top."""
HEAD_LIMIT = 64 * 1024
"""Bytes in a row that may arrive without any body: a head, the framing of chunks, trailers."""


class BadAnswer(Exception):
    """The bytes that arrived are not HTTP."""


class Connection(asyncio.Protocol):
    """Sends one request at a time.

    `status` and `headers` belong to the current answer. `arrived`, if set, is called after each read of the
    socket and when the connection is lost. It must not raise. The body is complete if `ended` is True, and
    broken if `failure` is set. In both cases the rest of it can still be taken.
    """

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.arrived: Callable[[], None] | None = None
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.ended = True
        self.failure: Exception | None = None
        self.pieces: list[bytes] = []
        """Parts of the body that have arrived and were not taken."""
        self.on_body = self.pieces.append  # a callback of the parser: a piece does not cost a Python call
        self._parser: HttpResponseParser = HttpResponseParser(self)
        # Real servers deviate in these ways. Other clients allow the same.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._feed = self._parser.feed_data
        self._head: asyncio.Future[None] | None = None
        self._ends_with_connection = False
        self._keeps_alive = True
        self._held = self._interim_bytes = 0
        self._paused = False

    @property
    def reusable(self) -> bool:
        """True if another request may follow: the last one was sent, and its answer has ended."""
        transport = self._transport
        return (
            self.ended
            and self._keeps_alive
            and self.failure is None
            and not self._paused
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    @property
    def has_received(self) -> bool:
        """True if any byte of the answer to the last request has arrived."""
        return bool(self.status or self._interim_bytes)

    @property
    def content_type(self) -> str:
        """Media type of the answer without parameters, or an empty string."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def content_encoding(self) -> str:
        return self.headers.get("Content-Encoding", "").strip().lower()

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer.

        Raises OSError or BadAnswer. The connection cannot be used again after an error or a cancellation.
        """
        if self.failure is not None or self._transport.is_closing():
            raise self.failure or ConnectionResetError("the other side closed the connection")
        self.headers = CIMultiDict()
        self.status = self._held = self._interim_bytes = 0
        self.ended = self._ends_with_connection = False
        self.pieces.clear()
        self._head = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._head

    def take(self) -> bytes:
        """Return the bytes of the body that arrived since the last call."""
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def read(self) -> bytes:
        """Return the next bytes of the body, or none at its end.

        For readers that do not set `arrived`. Raises `failure` if the connection failed.
        """
        while not self.pieces:
            if self.ended:
                return b""
            if self.failure is not None:
                raise self.failure
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.arrived = lambda waiter=waiter: None if waiter.done() else waiter.set_result(None)
            try:
                await waiter
            finally:
                self.arrived = None
        return self.take()

    def fail(self, failure: Exception) -> None:
        """End the answer with `failure`, which follows the bytes that were not taken.

        Only the first failure counts.
        """
        if self.failure is None:
            self.failure = failure
            if self._head is not None and not self._head.done():
                self._head.set_exception(failure)
        if self.arrived is not None:
            self.arrived()

    def abort(self) -> None:
        """Cut the connection. A normal close would wait for the goodbye of a TLS peer."""
        self._keeps_alive = False
        self._transport.abort()

    # -- callbacks of the transport --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.ended:  # no request waits for these bytes; they would be mixed up with the next answer
            self.abort()
            return
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._abort_with(BadAnswer(str(error.__context__ or error)))
            return
        if self.pieces:
            self._interim_bytes = 0
            self._held += len(data)
            if self._held > READ_BUFFER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._interim_bytes += len(data)
            if self._interim_bytes > HEAD_LIMIT:
                self._abort_with(BadAnswer(f"{HEAD_LIMIT} bytes of an answer contained no part of its body"))
                return
        if self.arrived is not None:
            self.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeps_alive = False
        if self._ends_with_connection and exc is None and self.failure is None:
            self.ended = True
        if self.ended:
            if self.arrived is not None:
                self.arrived()
        else:
            lost = exc or ConnectionResetError("the other side closed the connection")
            # Readers take a TimeoutError for one of our deadlines, so a timeout of the network gets another
            # class.
            self.fail(ConnectionAbortedError(str(lost)) if isinstance(lost, TimeoutError) else lost)
        del self._parser, self._feed  # they hold this object

    # -- callbacks of the parser -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.ended:  # a second answer, in the read that ended the first one
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # otherwise it is a trailer
            self.headers.add(name.decode("latin-1"), value.decode(errors="replace").strip())

    def on_headers_complete(self) -> None:
        if self.ended:
            raise BadAnswer("an answer without a request")
        status = self._parser.get_status_code()
        if status < 200:  # informational: the answer follows
            self.headers.clear()
            return
        self.status = status
        codings = self.headers.get("Transfer-Encoding", "").lower()
        self._ends_with_connection = "chunked" not in codings and "Content-Length" not in self.headers
        if self._head is not None and not self._head.done():
            self._head.set_result(None)

    def on_message_complete(self) -> None:
        if self.status and not self.ended:
            self.ended = True
            self._keeps_alive = self._parser.should_keep_alive()

    def _abort_with(self, failure: Exception) -> None:
        self.abort()
        if not self.ended:
            self.fail(failure)
