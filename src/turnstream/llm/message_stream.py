"""The stream that a caller of the library reads.

async with llm.stream("Why is the sky blue?") as stream:
    async for text in stream.text:
        print(text, end="")
    message = await stream.final_message()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import InvalidOutput
from turnstream.llm.callbacks import Callbacks, Caller
from turnstream.llm.generation import Generation
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.metrics import StreamMetrics
from turnstream.llm.model_message import ModelMessage
from turnstream.llm.output import OutputFormat
from turnstream.llm.readers import (
    BlocksReader,
    EventFilter,
    EventReader,
    EventsReader,
    PartialsReader,
    RenderedReader,
    Renderer,
    TextReader,
    Throttle,
)
from turnstream.llm.written_value import WrittenValue
from turnstream.model_loop.model_call import ModelCall
from turnstream.model_loop.sources import TurnSource
from turnstream.providers.pricing import Pricing
from turnstream.tracebacks import short_tracebacks

logger = logging.getLogger(__name__)

Output = TypeVar("Output")

CLOSE_SECONDS = 10.0
"""Seconds that a stream may take to close its source. The connection to the provider is closed at once."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Settings of a stream.

    Attributes:
        buffer: Events that may come before a reader requests them.
        update_interval: Seconds between two updates of `updates` and `blocks`.
        update_buffer: Number of waiting events at which `updates` gives an update before its time.
    """

    buffer: int = 256
    update_interval: float = 0.1
    update_buffer: int = 50
    as_it_comes: bool = True
    """False: readers get nothing before the answer is complete."""
    tools_as_they_come: bool = True
    """False: events of a tool call are held until the call is complete."""
    callbacks: Callbacks = field(default_factory=Callbacks)
    pricing: Pricing | None = None


MakeSource = Callable[[str, LiveAnswer], Awaitable[TurnSource]]
"""Makes the source of a stream, from its id and the LiveAnswer that holds the answer so far."""


@short_tracebacks
class MessageStream(Generic[Output]):
    """One answer, while it comes. Made by `LLM.stream`.

    The model is called when the `async with` block is entered. Model calls and tools that still run when the
    block is left are cancelled.

    Several tasks may read the stream at once, in any form, at any time inside the block. Each reader starts
    at the beginning. Readers do not delay each other: a slow reader gets larger pieces. Without a reader, the
    model's answer is not read either, beyond a small buffer.

    If the answer fails, every reader gets the events so far and then raises an error of `turnstream.errors`.
    Its `partial` is the message so far.
    """

    def __init__(
        self,
        make_source: MakeSource,
        options: StreamOptions | None = None,
        output: OutputFormat[Output] | None = None,
        *,
        output_as_tool: bool = False,
    ) -> None:
        self.id = new_id()
        """Unique id of the stream and its message."""
        options = options or StreamOptions()
        self._make_source = make_source
        self._options = options
        self._output = output
        self._as_tool = output_as_tool
        self._live = LiveAnswer(
            options.buffer, as_it_comes=options.as_it_comes, tools_as_they_come=options.tools_as_they_come
        )
        self._generation = Generation(self.id, self._live, options.pricing)
        self._caller = Caller(options.callbacks, self.id, self._live)
        self._task: asyncio.Task[None] | None = None
        self._final: ModelMessage[Any] | InvalidOutput | None = None
        self._act: Callable[[ModelMessage[Any]], None] | None = None

    def __repr__(self) -> str:
        if self._task is None:
            state = "not begun"
        elif not self.ended:
            state = "running"
        else:
            state = "complete" if self.error is None else "broke off"
        return f"<{type(self).__name__} {self.id}, {state}>"

    # -- the block ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Call the model.

        Raises ProviderError if the model does not answer, AuthenticationFailed without a key.
        """
        if self._task is not None:
            raise RuntimeError("this stream was begun already: make another with llm.stream(…)")
        work = self._generation.run(lambda: self._make_source(self.id, self._live))
        self._task = asyncio.get_running_loop().create_task(work, name=f"stream {self.id}")
        self._caller.start(lambda: (self._checked(), self.metrics))
        try:
            if not await self._generation.opened():
                self._live.raise_error()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel running work, and wait until it has ended. Leaving the block calls this."""
        self._act = None
        task = self._task
        if task is None:
            return
        try:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CLOSE_SECONDS)
                if not task.done():
                    logger.warning(
                        "stream %s did not close its source in time; the source is abandoned", self.id
                    )
        except BaseException:
            self._caller.cancel()
            raise
        await self._caller.finish()

    # -- readers -----------------------------------------------------------------------------------------

    @property
    def text(self) -> TextReader:
        """Pieces of the answer's text, from the beginning: `async for text in stream.text`.

        Text is never retracted: a restarted answer repeats it exactly, or the stream ends with an error.
        """
        return TextReader(self._started_live())

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        """Iterate over the events: `async for event in stream`. See `events`."""
        return self.events()

    def events(self, *filters: EventFilter) -> EventReader:
        """Return a reader of single events (`StepStart`, `BlockStart`, `BlockDelta`, `BlockStop`, …).

        The last event of a complete answer is `TurnComplete`. A late reader starts with a `BlockCatchup` for
        each block. `BlockReset` retracts blocks.

        Args:
            *filters: Functions that are called with each event, and return an event or None to drop it.
        """
        return EventReader(self._started_live(), filters)

    def batches(self) -> EventsReader:
        """Return a reader of lists of all waiting events. It is faster than `events`."""
        return EventsReader(self._started_live())

    def updates(self, interval: float | None = None, max_events: int | None = None) -> EventsReader:
        """Return a reader of lists of events, for a screen.

        Args:
            interval: Seconds between two lists. None: `stream.update_interval` of the settings.
            max_events: Number of waiting events at which a list comes before its time. None:
                `stream.update_buffer` of the settings.
        """
        return EventsReader(self._started_live(), self._pace(interval, max_events))

    def render(self, renderer: Renderer, *filters: EventFilter) -> RenderedReader:
        """Return a reader of the texts that `renderer` returns for the events. None skips an event."""
        return RenderedReader(self._started_live(), renderer, filters)

    @property
    def blocks(self) -> BlocksReader:
        """All blocks so far, after each change: `async for blocks in stream.blocks`.

        Updates come at most every 0.1 s (`stream.update_interval`). A block that still grows is `partial`.
        """
        return BlocksReader(self._started_live(), self._pace(None, None, by_time=True))

    @property
    def partials(self) -> PartialsReader:
        """The structured output so far, as plain JSON values: `async for value in stream.partials`.

        Strings grow. A number appears once it is complete. Raises TypeError for a stream without `output=`.
        """
        if self._output is None:
            raise TypeError("this stream has no partial values: give llm.stream(…, output=SomeType)")
        return PartialsReader(self._started_live(), self._output, as_tool=self._as_tool)

    def _started_live(self) -> LiveAnswer:
        if self._task is None:
            raise RuntimeError(
                "this stream was not begun: use `async with llm.stream(…) as stream`, "
                "or `with llm.stream_sync(…)`"
            )
        return self._live

    def _pace(self, interval: float | None, max_events: int | None, *, by_time: bool = False) -> Throttle:
        options = self._options
        seconds = options.update_interval if interval is None else interval
        return Throttle(seconds, None if by_time else max_events or options.update_buffer)

    # -- the end -----------------------------------------------------------------------------------------

    async def final_message(self) -> ModelMessage[Output]:
        """Return the complete message, after the end.

        Raises the error that ended the answer, and InvalidOutput if the answer is not of the requested type.
        """
        await self._started_live().wait_until_done()
        self._live.check_end()
        return self._checked()

    async def final_text(self) -> str:
        """Return the complete text. Raises as `final_message`."""
        return (await self.final_message()).text

    async def final_output(self) -> Output:
        """Return the value of the type given as `output=`. Raises as `final_message`."""
        return (await self.final_message()).output

    # -- the state so far --------------------------------------------------------------------------------

    @property
    def message(self) -> ModelMessage[Any]:
        """The message so far. Its `complete` is True if it is the whole message."""
        return self._generation.snapshot()

    @property
    def metrics(self) -> StreamMetrics:
        """Times and counts of the stream so far."""
        return self._generation.metrics

    @property
    def running(self) -> bool:
        """True from the call of the model until no more events will come."""
        return self._task is not None and not self._live.done

    @property
    def ended(self) -> bool:
        """True if no more events will come."""
        return self._live.done

    @property
    def error(self) -> BaseException | None:
        """The error that ended the answer, or None."""
        return self._live.error

    def watch_calls(self, act: Callable[[Sequence[ModelCall]], None]) -> None:
        """Call `act` with the model calls so far, each time that a model begins to answer.

        The last call is still running, so its usage is its estimated input.
        """
        self._generation.watch_calls(act)

    def when_read(self, act: Callable[[ModelMessage[Output]], None]) -> None:
        """Call `act` with the message, once it is complete and the first reader is at its end.

        `act` is not called if the answer fails or is not of the requested type, or after the block was left.
        `final_message` and callbacks are readers too.
        """
        self._act = act
        self._live.when_read = self._was_read

    def _was_read(self) -> None:
        message = self._with_output_or_error()
        if self._act is not None and not isinstance(message, InvalidOutput):
            act, self._act = self._act, None
            act(message)

    def _checked(self) -> ModelMessage[Any]:
        message = self._with_output_or_error()
        if isinstance(message, InvalidOutput):
            raise message
        return message

    def _with_output_or_error(self) -> ModelMessage[Any] | InvalidOutput:
        if self._final is None:
            self._final = self._with_output(self._generation.snapshot())
        return self._final

    def _with_output(self, message: ModelMessage[Any]) -> ModelMessage[Any] | InvalidOutput:
        if self._output is None:
            return message
        try:
            value = self._output.read(WrittenValue(self._live.fold, as_tool=self._as_tool).position().text())
        except InvalidOutput as error:
            error.partial = message
            return error
        return replace(
            message, output=value, stop_reason="end_turn" if message.outputs else message.stop_reason
        )
