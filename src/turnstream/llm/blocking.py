"""A stream for code without asyncio. It runs in the event loop of a thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from turnstream.core.blocks import Block
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import TurnstreamError
from turnstream.llm.message_stream import MessageStream
from turnstream.llm.metrics import StreamMetrics
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.readers import EventFilter, Reader, Renderer, filtered
from turnstream.loop_thread import LoopThread
from turnstream.tracebacks import short_tracebacks, shorten

Output = TypeVar("Output")
Item = TypeVar("Item")
Result = TypeVar("Result")


@short_tracebacks
class SyncMessageStream(Generic[Output]):
    """`MessageStream` for code without asyncio: `with llm.stream_sync("Why?") as stream: …`.

    Several threads may read it, each with its own reader.
    """

    def __init__(self, stream: MessageStream[Output], thread: LoopThread) -> None:
        self._stream = stream
        self._thread = thread
        self._forks = thread.forks
        self.id = stream.id

    def __repr__(self) -> str:
        return repr(self._stream).replace("<", "<Sync", 1)

    def __enter__(self) -> Self:
        """See `MessageStream.__aenter__`."""
        self._run(self._stream.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `MessageStream.close`."""
        if not self._thread.closed and self._forks == self._thread.forks:
            self._run(self._stream.close)

    @property
    def text(self) -> Iterator[str]:
        """See `MessageStream.text`."""
        return self._read(self._stream.text)

    def __iter__(self) -> Iterator[TurnEvent]:
        return self.events()

    def events(self, *filters: EventFilter) -> Iterator[TurnEvent]:
        """See `MessageStream.events`. `filters` are called in the thread that iterates."""
        try:
            for events in self._read(self._stream.batches()):
                yield from filtered(events, filters)
        except TurnstreamError as error:
            shorten(error)
            raise

    def updates(
        self, interval: float | None = None, max_events: int | None = None
    ) -> Iterator[Sequence[TurnEvent]]:
        """See `MessageStream.updates`."""
        return self._read(self._stream.updates(interval, max_events))

    def render(self, renderer: Renderer, *filters: EventFilter) -> Iterator[str]:
        """See `MessageStream.render`. The functions are called in the thread that iterates."""
        try:
            for event in self.events(*filters):
                if text := renderer(event):
                    yield text
        except TurnstreamError as error:
            shorten(error)
            raise

    @property
    def blocks(self) -> Iterator[tuple[Block, ...]]:
        """See `MessageStream.blocks`."""
        return self._read(self._stream.blocks)

    @property
    def partials(self) -> Iterator[Any]:
        """See `MessageStream.partials`."""
        return self._read(self._stream.partials)

    def final_message(self) -> ModelMessage[Output]:
        """See `MessageStream.final_message`."""
        return self._run(self._stream.final_message)

    def final_text(self) -> str:
        """See `MessageStream.final_text`."""
        return self._run(self._stream.final_text)

    def final_output(self) -> Output:
        """See `MessageStream.final_output`."""
        return self._run(self._stream.final_output)

    @property
    def message(self) -> ModelMessage[Any]:
        """See `MessageStream.message`."""
        return self._run(self._message)

    @property
    def metrics(self) -> StreamMetrics:
        """See `MessageStream.metrics`."""
        return self._stream.metrics

    @property
    def ended(self) -> bool:
        """See `MessageStream.ended`."""
        return self._stream.ended

    @property
    def error(self) -> BaseException | None:
        """See `MessageStream.error`."""
        return self._stream.error

    async def _message(self) -> ModelMessage[Any]:
        return self._stream.message

    def _read(self, reader: Reader[Item]) -> Iterator[Item]:
        try:
            while (item := self._run(reader.take)) is not None:
                yield item
        except TurnstreamError as error:
            shorten(error)
            raise

    def _run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        if self._forks != self._thread.forks:
            raise TurnstreamError(
                "this stream belongs to the process that this one was forked from: begin another here",
                code="forked",
            )
        return self._thread.run(work)
