"""JSON answers that may be large.

They are sent in parts, as fast as the client reads, and the stall timeout of event streams applies to them.
If an answer fails midway, its body has no valid end, so a client cannot mistake it for a complete one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from turnstream.errors import TurnstreamError
from turnstream.server.keepalive import KeepAlive
from turnstream.server.sending import ABORT_EXTENSION, PIECE, SendData, SentBody, serve_in_task

logger = logging.getLogger(__name__)


async def json_answer(parts: AsyncGenerator[bytes, None], keep_alive: KeepAlive) -> Response:
    """Return the answer with these parts. A small answer is complete. A large one is sent part by part.

    Raises the errors of the first parts.
    """
    begun = bytearray()
    async for part in parts:
        begun += part
        if len(begun) > PIECE:
            return _ChunkedResponse(_ChunkedBody(bytes(begun), parts, keep_alive))
    return Response(bytes(begun), media_type="application/json")


class _ChunkedBody(SentBody):
    """The body of one answer that is sent part by part."""

    __slots__ = ("_begun", "_closed", "_keep_alive", "_parts")

    def __init__(self, begun: bytes, parts: AsyncGenerator[bytes, None], keep_alive: KeepAlive) -> None:
        super().__init__()
        self._begun = begun
        self._parts = parts
        self._keep_alive = keep_alive
        self._closed = False

    def close(self) -> None:
        self._closed = True

    async def serve(self, send: SendData) -> None:
        self._keep_alive.answers.add(self)
        try:
            async with aclosing(self._parts) as parts:
                begun, self._begun = self._begun, b""
                await self.send_pieces(begun, send)
                del begun
                async for part in parts:
                    if self._closed:
                        return
                    await self.send_pieces(part, send)
        finally:
            self._keep_alive.answers.discard(self)


class _ChunkedResponse(Response):
    media_type = "application/json"

    def __init__(self, body: _ChunkedBody) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._chunked = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await serve_in_task(self._chunked, scope, receive, send)
        except TurnstreamError as error:
            logger.error("an answer broke off: %s", error)
            extensions: dict[str, Any] = scope.get("extensions") or {}
            abort = extensions.get(ABORT_EXTENSION)
            if abort is None:
                raise
            abort()
