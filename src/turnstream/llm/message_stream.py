"""A stream of the library, as its caller sees it.

async with llm.stream("Why is the sky blue?") as stream:
    async for text in stream.text:
        print(text, end="")
    message = await stream.final_message()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
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
from turnstream.model_loop.sources import TurnSource
from turnstream.providers.pricing import Pricing

logger = logging.getLogger(__name__)

Output = TypeVar("Output")

CLOSE_SECONDS = 10.0
"""What a stream that is left has to let go of everything; its upstream is closed at once."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is read. `buffer`: events that may come before anybody asks for them; `update_interval`, `update_buffer`: at
    most one update so many seconds apart, or sooner when so many events wait."""

    buffer: int = 256
    update_interval: float = 0.1
    update_buffer: int = 50
    as_it_comes: bool = True
    """False: readers get nothing before the answer is whole."""
    tools_as_they_come: bool = True
    """False: events of a call of a tool are held until it is whole."""
    callbacks: Callbacks = field(default_factory=Callbacks)
    pricing: Pricing | None = None


MakeSource = Callable[[str, LiveAnswer], Awaitable[TurnSource]]
"""The source of a stream, by its id; what has come of the answer is in the LiveAnswer."""


class MessageStream(Generic[Output]):
    """One answer, while it comes. Made by `LLM.stream`; the model is called when the `async with` block is entered, and what is
    still at work when the block is left, the call to the model, a tool, is stopped.

    Everything may be read at once, by several tasks, at any time inside the block, also again: each reader has its own place and
    begins at the beginning. Readers do not hold each other up; a slow one gets what has come meanwhile in larger pieces. When
    nobody reads, the model is not read either, beyond a small buffer.

    Where the answer breaks off, every reader raises why, after what had come: one of the errors of `turnstream.errors`, whose
    `partial` is the message so far.
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
        """Unique, and the message's id too."""
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

    # -- the block -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Call the model. Raises ProviderError where it does not begin to answer, AuthenticationFailed without a key."""
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop what is still at work, and wait until it has let go. Leaving the block does it."""
        task = self._task
        if task is None:
            return
        try:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=CLOSE_SECONDS)
                if not task.done():
                    logger.warning("stream %s does not let go of its source: it is left behind", self.id)
        except BaseException:
            self._caller.cancel()
            raise
        await self._caller.finish()

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def text(self) -> TextReader:
        """`async for text in stream.text`: the answer's text in pieces, from the beginning. What was given out is never taken
        back: an answer that has to be started again repeats it, or ends as an error."""
        return TextReader(self._begun())

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        """`async for event in stream`: see `events`."""
        return self.events()

    def events(self, *filters: EventFilter) -> EventReader:
        """The events (`StepStart`, `BlockStart`, `BlockDelta`, `BlockStop`, …), one by one; the last of a whole answer is
        `TurnComplete`. Each goes through `filters`, plain functions that give an event or None.

        A reader that is opened late begins with a `BlockCatchup` for each block. `BlockReset` takes blocks back.
        """
        return EventReader(self._begun(), filters)

    def batches(self) -> EventsReader:
        """The events in lists, as many as there are at a time: quicker than one by one."""
        return EventsReader(self._begun())

    def updates(self, interval: float | None = None, most: int | None = None) -> EventsReader:
        """The events in lists, for a screen: at most every `interval` seconds, or sooner when `most` wait."""
        return EventsReader(self._begun(), self._pace(interval, most))

    def render(self, renderer: Renderer, *filters: EventFilter) -> RenderedReader:
        """What `renderer`, a plain function, makes of each event: texts; None leaves one out."""
        return RenderedReader(self._begun(), renderer, filters)

    @property
    def blocks(self) -> BlocksReader:
        """`async for blocks in stream.blocks`: all blocks as they are, each time that they have grown, at most every 0.1 s. One
        that still grows is `partial`."""
        return BlocksReader(self._begun(), self._pace(None, None, by_time=True))

    @property
    def partials(self) -> PartialsReader:
        """`async for value in stream.partials`: the structured output as far as it has come, as plain JSON values. Strings grow;
        a number appears once it is whole. Only of a stream with `output=`."""
        if self._output is None:
            raise TypeError("this stream has no partial values: give llm.stream(…, output=SomeType)")
        return PartialsReader(self._begun(), self._output, as_tool=self._as_tool)

    def _begun(self) -> LiveAnswer:
        if self._task is None:
            raise RuntimeError(
                "this stream was not begun: use `async with llm.stream(…) as stream`, or `with llm.stream_sync(…)`"
            )
        return self._live

    def _pace(self, interval: float | None, most: int | None, *, by_time: bool = False) -> Throttle:
        options = self._options
        seconds = options.update_interval if interval is None else interval
        return Throttle(seconds, None if by_time else most or options.update_buffer)

    # -- the end -------------------------------------------------------------------------------------------------

    async def final_message(self) -> ModelMessage[Output]:
        """The whole message, once it is there. Raises why it broke off, and InvalidOutput where it is not of the type that was
        asked for."""
        await self._begun().wait_until_done()
        self._live.raise_error()
        return self._checked()

    async def final_text(self) -> str:
        """The whole text. Raises as `final_message`."""
        return (await self.final_message()).text

    async def final_output(self) -> Output:
        """The value of the type that was asked for with `output=`. Raises as `final_message`."""
        return (await self.final_message()).output

    # -- as of now -----------------------------------------------------------------------------------------------

    @property
    def message(self) -> ModelMessage[Any]:
        """The message as far as it has come; `complete` tells whether that is all."""
        return self._generation.snapshot()

    @property
    def metrics(self) -> StreamMetrics:
        """How long it took, or has taken by now, and how much came."""
        return self._generation.metrics

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        return self._live.done

    @property
    def error(self) -> BaseException | None:
        """Why the answer broke off, if it did."""
        return self._live.error

    def _checked(self) -> ModelMessage[Any]:
        if self._final is None:
            self._final = self._with_output(self._generation.snapshot())
        if isinstance(self._final, InvalidOutput):
            raise self._final
        return self._final

    def _with_output(self, message: ModelMessage[Any]) -> ModelMessage[Any] | InvalidOutput:
        if self._output is None:
            return message
        try:
            value = self._output.read(WrittenValue(self._live.fold, as_tool=self._as_tool).here().text())
        except InvalidOutput as error:
            error.partial = message
            return error
        return replace(
            message, output=value, stop_reason="end_turn" if message.outputs else message.stop_reason
        )
