"""Redaction of a source's content, before it is stored or shown, and of the requests to providers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop
from turnstream.core.turn_events import Notice, SourceEvent, StepStart, ToolProgress
from turnstream.model_loop.sources import (
    Batches,
    Book,
    Continuation,
    PendingApproval,
    Show,
    StepFailure,
    StepRecovery,
    Stream,
    TurnSource,
)
from turnstream.providers.base import CalledModel
from turnstream.safety.event_redactor import EventRedactor
from turnstream.safety.redaction import Redaction, redact_messages
from turnstream.safety.rules import RedactionFilter
from turnstream.safety.text_redactor import redact_text
from turnstream.wires.base import ModelRequest, StoredAnswer


def redacted_source(source: TurnSource, redaction: Redaction) -> TurnSource:
    """Return a source whose content is redacted by the rules for what is shown."""
    return source if redaction.shown is None else RedactedSource(source, redaction.shown)


def redact_request(request: ModelRequest, redaction: RedactionFilter) -> ModelRequest:
    """Return a request whose system prompt and messages are redacted."""
    system = request.system and redact_text(request.system, redaction)
    return msgspec.structs.replace(
        request, system=system, messages=redact_messages(request.messages, redaction)
    )


class RedactedSource(TurnSource):
    """A source whose content is redacted.

    A failed call drops the text that was held back: the call that replaces it continues after the shown text.
    """

    def __init__(self, source: TurnSource, redaction: RedactionFilter) -> None:
        self._source = source
        self._redaction = redaction
        self.needs_end_marker = source.needs_end_marker
        self.needs_preparation = source.needs_preparation

    @property
    def stop_reason(self) -> str | None:  # type: ignore[override]
        """The turn's stop reason."""
        return self._source.stop_reason

    @property
    def called(self) -> CalledModel | None:
        """The model that is called."""
        return self._source.called

    @property
    def answer_headers(self) -> Mapping[str, str]:
        """Headers of the last answer of a provider."""
        return self._source.answer_headers

    @property
    def pending(self) -> Sequence[PendingApproval]:
        """Calls of the last step that wait for an approval."""
        return self._source.pending

    def begin(self, show: Show) -> None:
        """Take the function that shows a transient event. Events are redacted one by one."""

        def show_redacted(event: ToolProgress | Notice) -> None:
            if isinstance(event, ToolProgress):
                event = msgspec.structs.replace(event, text=redact_text(event.text, self._redaction))
            show(event)

        self._source.begin(show_redacted)

    def book_with(self, book: Book) -> None:
        """See `TurnSource.book_with`."""
        self._source.book_with(book)

    async def prepare(self) -> Notice | None:
        """Prepare the steps."""
        return await self._source.prepare()

    @property
    def answer_id(self) -> str | None:
        """Id of the running answer, if the provider stores it."""
        return self._source.answer_id

    def continue_step(
        self, shown: Sequence[Block], answer: StoredAnswer | None = None
    ) -> Continuation | None:
        """Let the first step continue blocks of another process."""
        return self._source.continue_step(shown, answer)

    def step_start(self, number: int) -> StepStart:
        """Return the event that begins a step."""
        return self._source.step_start(number)

    def step(self, number: int) -> Stream | None:
        """Return the redacted stream of a step."""
        stream = self._source.step(number)
        return stream and self._redacted(stream)

    def results(self, stop: MessageStop | None) -> Stream | None:
        """Return the redacted stream of the results after a step."""
        stream = self._source.results(stop)
        return stream and _redacted_stream(stream, self._redaction, shows_rest=True)

    async def recover(self, broken: StepFailure) -> StepRecovery:
        """Return the replacement for the step's failed stream, redacted."""
        recovery = await self._source.recover(broken)
        return recovery._replace(stream=self._redacted(recovery.stream))

    def estimated_input(self) -> int:
        """Return the estimated tokens of the step's request."""
        return self._source.estimated_input()

    def stored(self, block: Block) -> None:
        """Note that a block of the step is stored."""
        self._source.stored(block)

    def note_retracted(self, sequence: int) -> None:
        """Note that blocks are retracted."""
        self._source.note_retracted(sequence)

    def unanswered(self) -> Sequence[Block]:
        """Return the stored tool calls that have no result yet."""
        return self._source.unanswered()

    def give_up(self) -> None:
        """Stop the running answer at its provider."""
        self._source.give_up()

    async def close(self) -> None:
        """Release all resources."""
        await self._source.close()

    def _redacted(self, stream: Stream) -> Stream:
        # a model's answer without its end marker is continued by another call, or it is incomplete
        return _redacted_stream(stream, self._redaction, shows_rest=not self.needs_end_marker)


@asynccontextmanager
async def _redacted_stream(
    stream: Stream, redaction: RedactionFilter, *, shows_rest: bool
) -> AsyncGenerator[Batches]:
    async with stream as batches:
        yield _RedactedBatches(batches, redaction, shows_rest=shows_rest)


class _RedactedBatches:
    """Batches of events in which matches are replaced. It reads every batch, so none is pushed past it.

    Args:
        shows_rest: True to show the text that is held back when the stream ends without an end marker.
    """

    def __init__(self, batches: Batches, redaction: RedactionFilter, *, shows_rest: bool) -> None:
        self._batches = batches
        self._shows_rest = shows_rest
        self._redactor = EventRedactor(redaction)
        self._has_ended = False

    def __aiter__(self) -> AsyncIterator[Sequence[SourceEvent]]:
        return self

    async def __anext__(self) -> Sequence[SourceEvent]:
        """Return the next batch, which may be empty while text is held back. Raises StopAsyncIteration."""
        if self._has_ended:
            raise StopAsyncIteration
        try:
            return self._redactor.feed(await anext(self._batches))
        except StopAsyncIteration:
            self._has_ended = True
            return self._redactor.close() if self._shows_rest else ()
