"""One model call over HTTP: sent, read as it arrives, and ended by whoever comes first: the model, a clock, a fault, the reader.

The answer is read never by line; a read that finds bytes ready awaits nothing, what arrives while one waits goes straight to
whoever wants it pushed, and the clocks cost one timer per call, not one per read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp

from turnstream.core.origin import Origin
from turnstream.core.stream_events import (
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
)
from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.providers.arrivals import ArrivalHandler
from turnstream.providers.base import Take
from turnstream.providers.clocks import ReadTimer, WaitClocks, is_output
from turnstream.providers.failures import broken_stream, request_failure
from turnstream.providers.plain_answer import JSON, PlainAnswerDecoder, is_plain
from turnstream.providers.provenance import with_origin, with_own_blocks
from turnstream.wires.base import Decoder, HttpRequest, ModelRequest
from turnstream.wires.think_tags import ThinkTagDecoder

if TYPE_CHECKING:
    from turnstream.providers.http import HttpProvider

logger = logging.getLogger(__name__)

ERROR_BODY_LIMIT = 64 * 1024
"""Bytes of an error's body that are read."""
ERROR_BODY_SECONDS = 5.0
DRAIN_SECONDS = 1.0
"""How long the end of the body may take after the model's end marker. Usage may come there (E8), and a body read to
its end leaves a connection that can be used again."""

_LAST = frozenset({MessageStop, Metadata, StreamError, StreamNotice})
"""With one of these at its end a batch is worth a closer look: it may end the answer."""


class HttpCall:
    """One model call: an async context manager over an async iterator, which are the same object. See `Pushed`."""

    __slots__ = (
        "_clocks",
        "_connection",
        "_content",
        "_decoder",
        "_origin",
        "_over",
        "_provider",
        "_request",
        "_response",
        "_stopped",
        "_take",
        "_taken",
        "_timer",
        "_waiter",
    )
    _content: aiohttp.StreamReader

    def __init__(self, provider: HttpProvider, request: ModelRequest) -> None:
        endpoint = provider.endpoint
        self._provider = provider
        self._request = request
        self._origin = Origin(provider.wire.name, provider.name, request.model)
        self._decoder = self._decoder_of(
            provider.wire.decoder(event_limit=endpoint.event_limit, on_malformed=endpoint.on_malformed)
        )
        self._clocks = WaitClocks(provider.timeouts)
        self._timer = ReadTimer(self._clocks, self.interrupt, self._look_for_failure)
        self._response: aiohttp.ClientResponse | None = None
        self._connection: ArrivalHandler | None = None
        self._waiter: asyncio.Future[list[StreamEvent] | None] | None = None
        self._take: Take | None = None
        self._taken = 0
        self._stopped = False
        self._over = False

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        provider = self._provider
        post = provider.wire.encode_request(with_own_blocks(self._request, self._origin))
        provider.enter(self)
        try:
            response = self._response = await self._answer_to(post)
            self._content = response.content
            logger.debug("%s answers %s with %d", provider.name, self._request.model, response.status)
            if not 200 <= response.status < 300:
                raise await self._status_error(response)
            if not self._request.stream or is_plain(provider.wire, response.content_type):
                self._decoder = self._decoder_of(
                    PlainAnswerDecoder(provider.wire, provider.endpoint.event_limit)
                )
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __aiter__(self) -> HttpCall:
        return self

    def push_to(self, take: Take) -> None:
        """Offer what arrives while `__anext__` waits to `take`; see `Pushed`."""
        connection = self._response.connection if self._response is not None else None
        protocol = connection.protocol if connection is not None else None
        if isinstance(protocol, ArrivalHandler):
            self._connection, self._take = protocol, take

    async def __anext__(self) -> Sequence[StreamEvent]:
        content = self._content
        timer = self._timer
        try:
            while not self._over:
                if content.total_bytes == self._taken:
                    timer.start()
                    if (connection := self._connection) is not None and self._more_may_come(connection):
                        pushed = await self._arrival(connection)
                        if pushed:
                            timer.stop()
                            return pushed
                    data = await content.readany()
                else:
                    data = content.read_nowait()
                if data:
                    self._taken += len(data)
                    events = self._decoder.feed(data)
                else:
                    self._over = True
                    events = self._decoder.close()
                if events:
                    timer.stop()
                    if type(events[-1]) in _LAST or not self._clocks.output:
                        return self._inspected(events)
                    return events
        except (aiohttp.ClientError, OSError, ProviderError) as error:
            failure = error
        except BaseException:
            self._close()
            raise
        else:
            self._close()
            raise StopAsyncIteration
        return self._rest_before(failure)

    def interrupt(self, error: ProviderError) -> None:
        """Make the read that is pending, or else the next, raise `error`."""
        if self._response is not None:
            self._content.set_exception(error)
            self._arrived()

    def _more_may_come(self, connection: ArrivalHandler) -> bool:
        """Whether the connection is still this call's: it goes to another at the end of the body."""
        content = self._content
        return connection.connected and not content.is_eof() and content.exception() is None

    async def _arrival(self, connection: ArrivalHandler) -> list[StreamEvent] | None:
        """Wait for events that nobody takes at once; None when something else has come. Raises what the decoder does."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        connection.arrived = self._arrived
        try:
            return await waiter
        finally:
            self._waiter = None
            if connection.arrived == self._arrived:  # else another call has it by now
                connection.arrived = None

    def _arrived(self) -> None:
        """Something has come: hand it on, if it is only more of the same, or else wake the read that waits."""
        waiter, content, take = self._waiter, self._content, self._take
        if waiter is None or waiter.done():
            return
        if take is None or not self._clocks.output:
            waiter.set_result(None)
            return
        events: list[StreamEvent] | None = None
        failure: Exception | None = None
        try:
            # A read may make room for more, and whoever takes it may have this one cancelled.
            while events is None and content.total_bytes != self._taken and not waiter.done():
                events = self._unpushed(take)
        except Exception as error:  # noqa: BLE001 - it is raised where the read waits
            failure = error
        if waiter.done():
            return
        # The body's end, or its failure, may have come with its last data.
        if failure is not None:
            waiter.set_exception(failure)
        elif events or content.is_eof() or content.exception() is not None:
            waiter.set_result(events)

    def _unpushed(self, take: Take) -> list[StreamEvent] | None:
        """Push what has come; the events that were not taken."""
        data = self._content.read_nowait()
        self._taken += len(data)
        events = self._decoder.feed(data)
        if not events:
            return None
        self._timer.tick()
        if type(events[-1]) in _LAST:
            return self._inspected(events)
        return None if take(events) else events

    def _look_for_failure(self) -> None:
        """A decoder gives what came before a malformed event first, and raises when it is called again: when a read
        waits for more, that is here."""
        if self._content.total_bytes == self._taken:
            try:
                self._decoder.feed(b"")
            except ProviderError as error:
                self.interrupt(error)

    def _decoder_of(self, decoder: Decoder) -> Decoder:
        has_tags = self._provider.endpoint.has_think_tags(self._request.model)
        return ThinkTagDecoder(decoder) if has_tags else decoder

    async def _answer_to(self, post: HttpRequest) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._clocks.patience()):
                return await self._provider.send(post, None if self._request.stream else JSON)
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ClientError)
            failure = (
                request_failure(self._provider.name, error) if connecting else self._clocks.timeout_error()
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = request_failure(self._provider.name, error)
        finally:
            self._clocks.waited += loop.time() - began
        raise self._provider.mask.error(failure)

    async def _status_error(self, response: aiohttp.ClientResponse) -> ProviderError:
        body = bytearray()
        try:
            async with asyncio.timeout(ERROR_BODY_SECONDS):
                while len(body) < ERROR_BODY_LIMIT and (data := await self._content.readany()):
                    body += data
        except (aiohttp.ClientError, OSError):
            pass  # the status says what failed; the words that came are used, the rest is worth no other error
        words = bytes(body[:ERROR_BODY_LIMIT])
        error = self._provider.wire.decode_error(response.status, response.headers, words)
        return self._provider.mask.error(error)

    def _inspected(self, events: list[StreamEvent]) -> list[StreamEvent]:
        """Look into a batch that may begin the output or end the answer."""
        if not self._clocks.output:
            events = with_origin(events, self._origin)
            if is_output(events):
                self._clocks.output_began()
                self._timer.restart()
        for position, event in enumerate(events):
            if type(event) is MessageStop:
                self._stopped = True
                self._clocks.answer_ended(DRAIN_SECONDS)
                self._timer.restart()
            elif type(event) is StreamError:
                self._close()
                return [*events[:position], self._provider.mask.event(event)]
        return events

    def _rest_before(self, failure: Exception) -> list[StreamEvent]:
        """A read or the decoder failed. What had arrived is given first (aiohttp raises before it gives that out, and
        a decoder may hold back what it found malformed), and `failure` raised by the next read. An answer that is
        whole by then is no failure. Returns events, or raises."""
        events: list[StreamEvent] = []
        if not self._over:
            try:
                events = self._decoder.feed(self._unread())
                if events:
                    self._content.set_exception(failure)
                else:
                    self._over = True
                    events = self._decoder.close()
            except StreamIncomplete:
                pass  # not whole: `failure` says why
            except ProviderError as error:
                failure = error
        if events:
            self._timer.stop()
            return self._inspected(events)
        self._close()
        if self._stopped:
            raise StopAsyncIteration
        raise self._typed(failure)

    def _unread(self) -> bytes:
        content = self._content
        if content.total_bytes == self._taken:
            return b""
        content._exception = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        data = content.read_nowait()
        self._taken += len(data)
        return data

    def _typed(self, failure: Exception) -> ProviderError:
        provider = self._provider
        error = failure if isinstance(failure, ProviderError) else broken_stream(provider.name, failure)
        response = self._response
        if isinstance(error, StreamIncomplete) and response is not None and not self._clocks.output:
            expected = provider.wire.content_type
            if response.content_type != expected:
                found = response.content_type
                error.message = f"{error.message} (it is {found}, not {expected}: is base_url right?)"
        return provider.mask.error(error)

    def _close(self) -> None:
        """Close the connection at once, unless the answer was read to its end: then it can be used again."""
        self._over = True
        self._timer.restart()
        self._provider.leave(self)
        response = self._response
        if response is None or response.closed:
            return
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # `close` alone waits for a TLS peer's goodbye
        response.close()
