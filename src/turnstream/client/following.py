"""Follows a turn's event stream over any number of connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol, Self

import aiohttp

from turnstream.client.one_loop import OneLoop
from turnstream.client.refusals import TEMPORARY, connection_failure, refusal
from turnstream.client.retrying import Backoff, retry_after_seconds
from turnstream.client.transport import ERROR_LIMIT, Transport, read_body
from turnstream.client.watched_turn import Frame
from turnstream.core.cursor import Cursor
from turnstream.core.native_fold import frame_decoder
from turnstream.errors import ConnectionFailed, TurnstreamError

_LOST = "lost the connection, and it did not come back"

STEADY_SECONDS = 10.0
"""Seconds after which the end of a waiting turn's connection does not count against the retry budget.

A turn may wait for hours, and proxies end connections that carry only comments.
"""
MAX_REPEATS = 20
"""Consecutive connections that may bring only known events. After that, following fails."""
_MAX_GENERATIONS = 1000
"""Generations with a known position, at most. Events of more generations are not progress."""


class FollowedStream(Protocol):
    """A stream that is followed: of a turn, or of many turns."""

    last_id: str | None

    @property
    def path(self) -> str: ...
    @property
    def position(self) -> Cursor | None: ...
    @property
    def ended(self) -> bool: ...
    @property
    def status(self) -> str | None: ...
    def connected(self) -> None: ...
    def end_reached(self) -> None: ...


class FrameStream:
    """Reads the frames of one stream as they arrive, after `turn.last_id`.

    `step` opens a connection, and another one if it is lost: closed, refused, or silent for longer than
    `Retry.idle`. An incomplete frame of a lost connection is discarded, because the server sends it again.
    Only the frames of one read are kept in memory.
    """

    def __init__(self, transport: Transport, turn: FollowedStream) -> None:
        self.losses = 0
        """Number of connections that were lost or could not be opened."""
        self._transport = transport
        self._turn = turn
        self._backoff = Backoff(transport.retry)
        self._decoder = frame_decoder()
        self._response: aiohttp.ClientResponse | None = None
        self._consumed = 0
        self._opened_at = 0.0
        self._has_frames = False
        self._repeats = 0
        self._reached: dict[int, int] = {}
        """Highest sequence number that was received, by generation."""

    async def step(self) -> Sequence[Frame] | None:
        """Return the new frames. Fold them before the next call.

        Return an empty sequence if the connection was lost: the next call reconnects. Return None if nothing
        follows.

        Raises errors that a retry cannot fix (NotFound, Unauthorized, …). Raises the last failure if the
        server is unavailable for longer than `Retry.budget`, or has sent the same events again `MAX_REPEATS`
        times.
        """
        if self._response is None:
            self._note_progress()
            await self._backoff.pause()
            try:
                if not await self._open():
                    return None if self._turn.ended else ()
            except TurnstreamError:
                self.close()
                raise
        try:
            return await self._read()
        except TurnstreamError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. The next `step` opens a new one."""
        response, self._response = self._response, None
        self._transport.connections.streams.discard(self)
        if response is None or response.closed:
            return
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # `close` alone waits for the TLS shutdown of the peer
        response.close()

    def forget(self) -> object:
        """See `OpenStream.forget`. The next `step` opens a new connection."""
        response, self._response = self._response, None
        return response

    async def _open(self) -> bool:
        began = time.monotonic()
        last_id = self._turn.last_id
        headers = {"Last-Event-ID": last_id} if last_id is not None else {}
        retry_after = None
        try:
            response = await self._transport.open_stream(self._turn.path, headers)
            if response.status == 200:
                self._begin(response)
                return True
            async with response, asyncio.timeout(self._transport.retry.request):
                if response.status == 204:
                    self._turn.end_reached()
                    return False
                body = await read_body(response, ERROR_LIMIT)
            failure = refusal(response, body)
            if response.status not in TEMPORARY:
                raise failure
            retry_after = retry_after_seconds(response.headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError) as error:
            failure = connection_failure(self._transport.root, error, during="cannot be reached")
            failure.__cause__ = error
            if not failure.retryable:
                raise failure from error
        self.losses += 1
        self._backoff.failed(failure, seconds=time.monotonic() - began, retry_after=retry_after)
        return False

    def _begin(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._transport.connections.streams.add(self)
        if response.content_type != "text/event-stream":
            raise TurnstreamError(
                f"{self._transport.root} answers with {response.content_type} and not with an event stream: "
                "is it the URL of a turnstream server?",
                code="unexpected_answer",
            )
        self._decoder = frame_decoder()
        self._consumed = 0
        self._opened_at = time.monotonic()
        self._has_frames = False
        self._turn.connected()

    async def _read(self) -> Sequence[Frame]:
        assert self._response is not None
        content = self._response.content
        error: Exception | None = None
        try:
            data = await content.readany()
        except (aiohttp.ClientError, OSError) as failure:
            error = failure
            data = _unread(content, self._consumed)
        self._consumed += len(data)
        frames = self._decoder.feed(data) if data else ()
        self._has_frames = self._has_frames or bool(frames)
        if error is not None or not data:
            self._note_loss(error)
        return frames

    def _note_loss(self, error: Exception | None) -> None:
        self.close()
        self.losses += 1
        self._note_progress()
        if self._turn.status == "waiting" and time.monotonic() - self._opened_at >= STEADY_SECONDS:
            self._repeats = 0
            self._backoff.succeeded()
        self._repeats += self._has_frames
        failure = connection_failure(self._transport.root, error, during=_LOST)
        failure.__cause__ = error
        self._backoff.failed(failure, seconds=0.0)
        if self._repeats >= MAX_REPEATS:
            self._repeats = 0
            self._backoff.give_up(
                ConnectionFailed(
                    f"{self._transport.root} ends the stream after the same events each time: no new events "
                    f"came in {MAX_REPEATS} connections",
                    code="no_progress",
                )
            )

    def _note_progress(self) -> None:
        """Reset the retry budget if events arrived that were not known. Call it only between connections."""
        cursor = self._turn.position
        if cursor is None or cursor.seq <= self._reached.get(cursor.generation, -1):
            return
        if cursor.generation in self._reached or len(self._reached) < _MAX_GENERATIONS:
            self._reached[cursor.generation] = cursor.seq
            self._repeats = 0
            self._backoff.succeeded()


class AsyncFollowing:
    """Base of streams that are followed by one asynchronous loop at a time.

    Args:
        transport: The client's connections.
        stream: The stream that is followed.
        advice: The remedy that the error names if two loops watch at the same time.
    """

    def __init__(self, transport: Transport, stream: FollowedStream, advice: str) -> None:
        self.transport = transport
        self._following = FrameStream(transport, stream)
        self._one_loop = OneLoop(self.close, advice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def losses(self) -> int:
        """Number of connections that were lost or could not be opened."""
        return self._following.losses

    def close(self) -> None:
        """Close the connection.

        Turns continue on the server. The next iteration resumes after the last event.
        """
        self._following.close()


def _unread(content: aiohttp.StreamReader, taken: int) -> bytes:
    """Return the bytes that arrived before the connection failed. aiohttp raises before it returns them."""
    if content.total_bytes == taken:
        return b""
    content._exception = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return content.read_nowait()
