"""Readers of a live answer. Each has its own position, and may start late, be slow, or stop.

`take` waits for content after the reader's position, and returns it, or None at the end of the answer. If the
answer failed, it raises the error after all content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from turnstream.core.blocks import Block
from turnstream.core.partial_json import NOTHING
from turnstream.core.turn_events import TurnEvent
from turnstream.errors import ContentFiltered, TurnstreamError
from turnstream.llm.event_queue import EventQueue
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.output import OutputFormat
from turnstream.llm.written_value import WrittenValue
from turnstream.tracebacks import shorten

Item = TypeVar("Item")


class Reader(Generic[Item]):
    """An iterator: `async for item in reader`. Only one task may use a reader at a time."""

    async def take(self) -> Item | None:
        """Return the next item, or None at the end of the answer. Wait for it if needed."""
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        try:
            item = await self.take()
        except TurnstreamError as error:
            shorten(error)
            raise
        if item is None:
            raise StopAsyncIteration
        return item


class TextReader(Reader[str]):
    """Reads the text as it comes, in pieces that are never empty."""

    def __init__(self, live: LiveAnswer) -> None:
        self._live = live
        self._position = 0
        self._withdrawals = len(live.text.withdrawals)

    async def take(self) -> str | None:
        """Return the text after the reader's position.

        Raises ContentFiltered if the provider withdrew text that was read. The next call returns the text in
        its place.
        """
        live = self._live
        while True:
            if len(live.text.withdrawals) > self._withdrawals:
                self._check_withdrawals(live.text.withdrawals[self._withdrawals :])
            if text := live.text.read(self._position):
                self._position += len(text)
                live.caught_up()
                return text
            if live.done:
                live.check_end()
                return None
            await live.wait()

    def _check_withdrawals(self, places: list[int]) -> None:
        self._withdrawals += len(places)
        if self._position > (place := min(places)):
            self._position = place
            raise ContentFiltered(
                "the provider withdrew text that was read: show the text of `final_message` in its place"
            )


class Throttle:
    """Limits a reader to one item every `interval` seconds, or sooner if `max_events` events wait."""

    def __init__(self, interval: float, max_events: int | None = None) -> None:
        self._interval = interval
        self._max_events = max_events
        self._next = 0.0

    async def wait(self, live: LiveAnswer, waiting: Callable[[], int] = lambda: 0) -> None:
        """Wait until the next item is due, or the answer is done."""
        loop = asyncio.get_running_loop()
        left = self._next - loop.time()
        if left > 0:
            if self._max_events is None:
                await live.wait_until_done(left)
            else:
                await self._wait_for_many(live, waiting, left)
        self._next = loop.time() + self._interval

    async def _wait_for_many(self, live: LiveAnswer, waiting: Callable[[], int], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not live.done and waiting() < (self._max_events or 0):
                    await live.wait()
        except TimeoutError:
            pass


class EventsReader(Reader[Sequence[TurnEvent]]):
    """Reads lists of all waiting events. `pace` limits how often, for a screen."""

    def __init__(self, live: LiveAnswer, pace: Throttle | None = None) -> None:
        self._live = live
        self._queue: EventQueue | None = None
        self._pace = pace

    async def take(self) -> Sequence[TurnEvent] | None:
        """Return all waiting events."""
        live = self._live
        queue = self._queue if self._queue is not None else live.open_queue()
        self._queue = queue
        while not queue:
            if live.done:
                live.check_end()
                return None
            await live.wait()
        if self._pace is not None:
            await self._pace.wait(live, lambda: len(queue))
        events = queue.take()
        live.caught_up()
        return events


EventFilter = Callable[[TurnEvent], "TurnEvent | None"]
"""Returns the event, or another one in its place, or None to drop it."""
Renderer = Callable[[TurnEvent], "str | None"]
"""Returns the text that shows an event. None or an empty text skips it."""


def filtered(events: Sequence[TurnEvent], filters: Sequence[EventFilter]) -> Iterator[TurnEvent]:
    """Yield the events that `filters` return."""
    for event in events:
        kept: TurnEvent | None = event
        for one in filters:
            if kept is not None:
                kept = one(kept)
        if kept is not None:
            yield kept


class EventReader(Reader[TurnEvent]):
    """Reads the events one by one, through `filters`."""

    def __init__(self, live: LiveAnswer, filters: Sequence[EventFilter] = ()) -> None:
        self._batches = EventsReader(live)
        self._filters = filters
        self._ready: list[TurnEvent] = []

    async def take(self) -> TurnEvent | None:
        """Return the next event."""
        while not self._ready:
            events = await self._batches.take()
            if events is None:
                return None
            self._ready = [*filtered(events, self._filters)][::-1]
        return self._ready.pop()


class RenderedReader(Reader[str]):
    """Reads the texts that a renderer returns for the events."""

    def __init__(self, live: LiveAnswer, renderer: Renderer, filters: Sequence[EventFilter]) -> None:
        self._events = EventReader(live, filters)
        self._renderer = renderer

    async def take(self) -> str | None:
        """Return the next text."""
        async for event in self._events:
            if text := self._renderer(event):
                return text
        return None


class _ChangesReader(Reader[Item]):
    """Reads the value of `_now` after each change of the answer, if the value has changed."""

    def __init__(self, live: LiveAnswer, seen: Item, pace: Throttle | None = None) -> None:
        self._live = live
        self._seen = seen
        self._pace = pace
        self._version = 0

    async def take(self) -> Item | None:
        """Return the next value."""
        live = self._live
        while True:
            if live.version != self._version:
                if self._pace is not None:
                    await self._pace.wait(live)
                self._version = live.version
                live.caught_up()
                if (value := self._now()) is not NOTHING and value != self._seen:
                    self._seen = value
                    return value
            elif live.done:
                live.check_end()
                return None
            else:
                await live.wait()

    def _now(self) -> Item:
        """Return the value as it is now, or NOTHING."""
        raise NotImplementedError


class BlocksReader(_ChangesReader[tuple[Block, ...]]):
    """Reads all blocks so far, after each change."""

    def __init__(self, live: LiveAnswer, pace: Throttle) -> None:
        super().__init__(live, (), pace)

    def _now(self) -> tuple[Block, ...]:
        return self._live.snapshot()


class PartialsReader(_ChangesReader[Any]):
    """Reads the typed value so far, as plain JSON values, after each change.

    Parsing takes time proportional to the text. So it is done only after the text has grown by a sixteenth:
    all parses together take about seventeen times as long as the last one.
    """

    def __init__(self, live: LiveAnswer, output: OutputFormat[Any], *, as_tool: bool) -> None:
        super().__init__(live, NOTHING)
        self._output = output
        self._written = WrittenValue(live.fold, as_tool=as_tool)
        self._next_length = 1

    def _now(self) -> Any:
        here = self._written.position()
        if here.length < self._next_length and not self._live.done:
            return NOTHING
        self._next_length = here.length + here.length // 16 + 1
        return self._output.read_partial(here.text())
