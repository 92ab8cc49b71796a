"""One model call over HTTP. The model, a clock, a failure or the reader ends it.

The answer is not read by lines. A read that finds bytes does not wait. Bytes that arrive while a read waits
are pushed, if the reader accepts them. The clocks cost one timer per call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from turnstream.core.origin import Origin
from turnstream.core.stream_events import (
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.errors import ProviderError, ProviderTimeout, StreamIncomplete
from turnstream.providers.base import Patience, Take
from turnstream.providers.clocks import ReadTimer, WaitClocks, is_output
from turnstream.providers.connection import BadAnswer, Connection
from turnstream.providers.conversations import request_for, run_work, with_origin
from turnstream.providers.failures import broken_stream, request_failure
from turnstream.providers.inflating import InflatedBody, inflated
from turnstream.providers.request_sender import RequestSender
from turnstream.wires.base import Decoder, HttpRequest, ModelRequest, Position, rest_of
from turnstream.wires.shared.failure_words import reclassified
from turnstream.wires.shared.plain_answer import JSON, PlainAnswerDecoder, is_plain
from turnstream.wires.shared.think_tags import ThinkTagDecoder

logger = logging.getLogger(__name__)

ERROR_BODY_LIMIT = 64 * 1024
"""Bytes of an error's body to read."""
ERROR_BODY_SECONDS = 5.0
_REQUEST_IDS = (
    "request-id", "x-request-id", "x-amzn-requestid", "apim-request-id", "x-ms-request-id",
    "x-goog-request-id", "x-correlation-id", "cf-ray",
)  # fmt: skip
"""Headers in which providers, and proxies before them, name a request. The provider's own come first."""
LIKELY_GRACE = 5.0
"""Factor of the grace if the finish reason may come with each event of the answer, not only at its end."""
DRAIN_SECONDS = 1.0
"""Seconds for the end of the body after the model's end marker. It may hold usage, and a connection can be
used again only after its body was read to the end."""

_LAST = frozenset({MessageStop, Metadata, StreamError, StreamNotice})
"""Kinds of events that may end the answer. A batch that ends with one is inspected."""


class HttpCall:
    """One model call: an async context manager that is its own async iterator. See `PushSource`."""

    _clocks: WaitClocks
    _timer: ReadTimer
    _connection: Connection
    _body: Connection | InflatedBody

    def __init__(self, provider: RequestSender, request: ModelRequest, answer_id: str | None = None) -> None:
        self._provider = provider
        self._answer_id = answer_id
        self._request = request
        self._origin = Origin(provider.wire.name, provider.name, request.model)
        self._decoder = self._decoder_of(self._new_stream())
        self._patience = Patience()
        self._waiter: asyncio.Future[list[StreamEvent] | None] | None = None
        self._take: Take | None = None
        self._broken: ProviderError | None = None
        self._stopped = False
        self._is_over = self._released = True

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        provider = self._provider
        self._clocks = WaitClocks(provider.timeouts, self._patience)
        self._timer = ReadTimer(self._clocks, self.interrupt, self._check_decoder)
        post = await run_work(self._request.messages, self._encoded)
        provider.register(self)
        try:
            connection = self._connection = await self._answer_to(post)
        except BaseException:
            provider.unregister(self)
            raise
        self._is_over = self._released = False
        logger.debug("%s answers %s with %d", provider.name, self._request.model, connection.status)
        try:
            if not 200 <= connection.status < 300:
                raise await self._status_error(connection, post)
            if not self._request.stream or is_plain(provider.wire, connection.content_type):
                limit = provider.endpoint.event_limit
                self._decoder = self._decoder_of(PlainAnswerDecoder(provider.wire, limit, self._new_stream))
            self._body = connection
            if (coding := connection.content_encoding) not in {"", "identity"}:
                self._body = InflatedBody(connection, coding)
            connection.arrived = self._arrived
        except ProviderError as error:
            self._close()
            raise provider.mask.error(error) from None
        except BaseException:
            self._close()
            raise
        return self

    def _encoded(self) -> HttpRequest:
        resume = self._provider.wire.encode_resume
        if self._answer_id is not None and resume is not None:
            return resume(Position(self._answer_id, -1))
        return self._provider.wire.encode_request(request_for(self._request, self._origin))

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def __aiter__(self) -> HttpCall:
        return self

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """Headers of the answer. See `AnsweredOverHttp`."""
        return self._connection.headers

    @property
    def position(self) -> Position | None:
        """Read position, if the provider stores the answer. None if it does not, or if the answer is over."""
        return getattr(self._decoder, "position", None)

    def wait_with(self, patience: Patience) -> None:
        """Choose the clocks. See `AdjustableClocks`."""
        self._patience = patience

    def push_to(self, take: Take) -> None:
        """Offer batches that arrive while `__anext__` waits to `take`. See `PushSource`."""
        if self._body is self._connection:  # one read of a compressed body may yield many pieces
            self._take = take

    async def __anext__(self) -> Sequence[StreamEvent]:
        try:
            while not self._is_over:
                body = self._body
                events: Sequence[StreamEvent] | None
                if body.pieces:
                    if body is not self._connection:  # one read can inflate to a thousand pieces
                        await asyncio.sleep(0)
                    events = self._decoder.feed(body.take())
                elif self._broken is not None:
                    raise self._broken
                elif body.ended:
                    events = self._last_events()
                elif body.failure is not None:
                    events = self._last_events_after(body.failure)
                else:
                    self._timer.start()
                    events = await self._arrival()
                if events:
                    last: Any = events[-1]
                    kind = last.__class__
                    if (
                        last.text
                        if kind is TextDelta or kind is ThinkingDelta
                        else kind is ToolInputDelta and last.partial_json
                    ) and self._clocks.output:
                        self._timer.stop()
                        return events
                    return self._inspect_batch(events)
        except ProviderError as error:
            error.silence = self._timer.silence
            self._close()
            if not self._stopped:
                raise self._masked_error(error) from None
        except BaseException:
            self._close()
            raise
        self._close()
        raise StopAsyncIteration

    def interrupt(self, error: ProviderError) -> None:
        """Make the pending read raise `error`, or the next one if none is pending."""
        if not self._is_over:
            self._connection.fail(error)

    async def _arrival(self) -> Sequence[StreamEvent] | None:
        """Wait for data.

        Return events that were decoded but not pushed, or None. Raises the decoder's errors.
        """
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await waiter
        finally:
            self._waiter = None

    def _arrived(self) -> None:
        """Push what arrived. Wake the waiting read if it may begin the output or end the answer."""
        waiter, take, body = self._waiter, self._take, self._body
        if waiter is None or waiter.done():
            return
        if take is None or not self._clocks.output:
            waiter.set_result(None)
            return
        events: Sequence[StreamEvent] | None = None
        try:
            if body.pieces:
                events = self._decoder.feed(body.take())
            if events:
                last: Any = events[-1]
                kind = last.__class__
                if (
                    last.text
                    if kind is TextDelta or kind is ThinkingDelta
                    else kind is ToolInputDelta and last.partial_json
                ) or is_output(events):
                    self._timer.tick()
                if kind not in _LAST and take(events):
                    events = None
        except Exception as error:  # noqa: BLE001 - the waiting read raises it
            if not waiter.done():
                waiter.set_exception(error)
            return
        # `take` may have cancelled the read, and the end of the body may have come with its last data.
        if not waiter.done() and (events or body.ended or body.failure is not None):
            waiter.set_result(events)

    def _check_decoder(self) -> None:
        """Check the state of the decoder while a read waits.

        If the last bytes had a malformed event, the decoder has returned the events before it, and raises at
        the next call. If only the end marker is missing, `finish` is set, and the wait becomes short.
        """
        try:
            self._decoder.feed(b"")
        except ProviderError as error:
            self.interrupt(error)
            return
        if not self._stopped and (finish := self._decoder.finish) is not None:
            grace = self._provider.timeouts.grace
            self._clocks.finish_seen(grace if finish == "certain" else grace * LIKELY_GRACE)

    def _new_stream(self) -> Decoder:
        endpoint = self._provider.endpoint
        return self._provider.wire.decoder(
            event_limit=endpoint.event_limit, on_malformed=endpoint.on_malformed
        )

    def _decoder_of(self, decoder: Decoder) -> Decoder:
        has_tags = self._provider.endpoint.has_think_tags(self._request.model)
        return ThinkTagDecoder(decoder) if has_tags else decoder

    async def _answer_to(self, post: HttpRequest) -> Connection:
        loop = asyncio.get_running_loop()
        began = loop.time()
        failure: ProviderError
        try:
            async with asyncio.timeout(self._clocks.patience()):
                return await self._provider.send(post, None if self._request.stream else JSON)
        except TimeoutError:
            failure = self._clocks.timeout_error()
        except ProviderError as error:
            failure = error
        except (OSError, BadAnswer) as error:
            failure = request_failure(self._provider.name, error)
        finally:
            self._clocks.waited += loop.time() - began
        raise self._provider.mask.error(failure)

    async def _status_error(self, connection: Connection, post: HttpRequest) -> ProviderError:
        body = bytearray()
        try:
            async with asyncio.timeout(ERROR_BODY_SECONDS):
                while len(body) < ERROR_BODY_LIMIT and (data := await connection.read()):
                    body += data
        except (OSError, BadAnswer):
            pass  # the status is the failure: the bytes that arrived are used, another error would hide it
        words = inflated(bytes(body), connection.content_encoding, ERROR_BODY_LIMIT)
        error = self._provider.wire.decode_error(connection.status, connection.headers, words)
        error = self._provider.overflow.error(reclassified(error))
        error.request_id = self._request_id
        if connection.status in (404, 405):
            error.message += f" (asked at {self._provider.addresses.of(post.path).raw_path})"
        return error

    def _inspect_batch(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Inspect a batch that may begin the output, end the answer, or have no output."""
        has_output = is_output(events)
        if has_output:
            self._timer.stop()
        else:
            self._timer.pause()
        if not self._clocks.output:
            events = with_origin(events, self._origin)
            if has_output:
                self._clocks.output_began()
                self._timer.restart()
        for position, event in enumerate(events):
            if type(event) is MessageStop:
                self._stopped = True
                self._clocks.answer_ended(DRAIN_SECONDS)
                self._timer.restart()
            elif type(event) is StreamError:
                self._close()
                told = msgspec.structs.replace(
                    self._provider.overflow.event(event), request_id=self._request_id
                )
                return [*events[:position], self._provider.mask.event(told)]
        return events

    def _last_events_after(self, failure: Exception) -> list[StreamEvent]:
        """Return the last events after a failure of the body.

        Raises ProviderError if the answer is incomplete.
        """
        if isinstance(failure, ProviderTimeout) and self._decoder.finish is not None:
            self._is_over = True
            return self._decoder.end()
        return self._last_events(
            failure if isinstance(failure, ProviderError) else broken_stream(self._provider.name, failure)
        )

    def _last_events(self, failure: ProviderError | None = None) -> list[StreamEvent]:
        """Return the last events.

        If the answer is incomplete, the next read raises `failure`, or the decoder's error.
        """
        events, incomplete = rest_of(self._decoder)
        if incomplete is None:
            self._is_over = True
            return events
        self._broken = failure or incomplete
        if not events:
            raise self._broken
        return events

    @property
    def _request_id(self) -> str | None:
        """Request id of the provider."""
        headers = self._connection.headers
        found = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
        return None if found is None else self._provider.mask.text(found)

    def _masked_error(self, error: ProviderError) -> ProviderError:
        """Return the error to raise: without keys, and with a hint if the answer has another media type."""
        provider = self._provider
        error.request_id = self._request_id
        if isinstance(error, StreamIncomplete) and not self._clocks.output:
            expected, found = provider.wire.content_type, self._connection.content_type
            if found != expected:
                error.message = f"{error.message} (it is {found}, not {expected}: is base_url right?)"
        return provider.mask.error(error)

    def _close(self) -> None:
        """Release the connection. It is cut at once unless the answer was read to its end."""
        self._is_over = True
        self._timer.restart()
        self._provider.unregister(self)
        self._take = None
        if not self._released:
            self._released = True
            self._provider.release(self._connection)
