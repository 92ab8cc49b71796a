"""One client connection, as uvicorn's httptools protocol with limits of ours (requirements C4, K4)."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnstream.server.streams import ABORT_EXTENSION

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
    """One client connection: requests' heads have limits of size and time, and a response may cut it without
    flushing."""

    _extensions: dict[str, Any]
    _in_head = False
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._extensions = {ABORT_EXTENSION: self.abort}
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._extensions.clear()
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
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
