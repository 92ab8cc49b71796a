"""Who reads a live answer: each reader is a place in it, and may come late, be slow, or stop.

`take` gives what there is beyond the reader's place, waiting for it if need be; None when the answer is at its end. Raises why
an answer broke off, after everything that had come of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from turnstream.core.blocks import Block
from turnstream.core.partial_json import NOTHING
from turnstream.core.turn_events import TurnEvent
from turnstream.llm.event_queue import EventQueue
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.output import OutputFormat
from turnstream.llm.written_value import WrittenValue

Item = TypeVar("Item")


class Reader(Generic[Item]):
    """`async for item in reader`. A reader is read by one task at a time; make one for each."""

    async def take(self) -> Item | None:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        item = await self.take()
        if item is None:
            raise StopAsyncIteration
        return item


class TextReader(Reader[str]):
    """The text as it comes, in pieces that are never empty."""

    def __init__(self, live: LiveAnswer) -> None:
        self._live = live
        self._position = 0

    async def take(self) -> str | None:
        live = self._live
        while True:
            if text := live.text.read(self._position):
                self._position += len(text)
                live.caught_up()
                return text
            if live.done:
                live.raise_error()
                return None
            await live.wait()


class Throttle:
    """At most one thing every `interval` seconds, or sooner when `most` wait."""

    def __init__(self, interval: float, most: int | None = None) -> None:
        self._interval = interval
        self._most = most
        self._next = 0.0

    async def wait(self, live: LiveAnswer, waiting: Callable[[], int] = lambda: 0) -> None:
        """Until it is time again, or nothing more will come."""
        loop = asyncio.get_running_loop()
        left = self._next - loop.time()
        if left > 0:
            if self._most is None:
                await live.wait_until_done(left)
            else:
                await self._wait_for_many(live, waiting, left)
        self._next = loop.time() + self._interval

    async def _wait_for_many(self, live: LiveAnswer, waiting: Callable[[], int], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not live.done and waiting() < (self._most or 0):
                    await live.wait()
        except TimeoutError:
            pass


class EventsReader(Reader[Sequence[TurnEvent]]):
    """The events as they come, all that wait at once; with a `pace`, for a screen, not more often than that."""

    def __init__(self, live: LiveAnswer, pace: Throttle | None = None) -> None:
        self._live = live
        self._queue: EventQueue | None = None
        self._pace = pace

    async def take(self) -> Sequence[TurnEvent] | None:
        live = self._live
        queue = self._queue if self._queue is not None else live.open_queue()
        self._queue = queue
        while not queue:
            if live.done:
                live.raise_error()
                return None
            await live.wait()
        if self._pace is not None:
            await self._pace.wait(live, lambda: len(queue))
        events = queue.take()
        live.caught_up()
        return events


EventFilter = Callable[[TurnEvent], "TurnEvent | None"]
"""Gives the event, another in its place, or None to leave it out."""
Renderer = Callable[[TurnEvent], "str | None"]
"""What an event looks like; None, or nothing, for one that is not shown."""


def filtered(events: Sequence[TurnEvent], filters: Sequence[EventFilter]) -> Iterator[TurnEvent]:
    """The events that `filters` leave."""
    for event in events:
        kept: TurnEvent | None = event
        for one in filters:
            if kept is not None:
                kept = one(kept)
        if kept is not None:
            yield kept


class EventReader(Reader[TurnEvent]):
    """The events one by one, through `filters`."""

    def __init__(self, live: LiveAnswer, filters: Sequence[EventFilter] = ()) -> None:
        self._batches = EventsReader(live)
        self._filters = filters
        self._ready: list[TurnEvent] = []

    async def take(self) -> TurnEvent | None:
        while not self._ready:
            events = await self._batches.take()
            if events is None:
                return None
            self._ready = [*filtered(events, self._filters)][::-1]
        return self._ready.pop()


class RenderedReader(Reader[str]):
    """What a renderer makes of the events."""

    def __init__(self, live: LiveAnswer, renderer: Renderer, filters: Sequence[EventFilter]) -> None:
        self._events = EventReader(live, filters)
        self._renderer = renderer

    async def take(self) -> str | None:
        async for event in self._events:
            if text := self._renderer(event):
                return text
        return None


class BlocksReader(Reader[tuple[Block, ...]]):
    """All blocks as they are, each time that they have grown."""

    def __init__(self, live: LiveAnswer, pace: Throttle) -> None:
        self._live = live
        self._pace = pace
        self._seen: tuple[Block, ...] = ()
        self._version = 0

    async def take(self) -> tuple[Block, ...] | None:
        live = self._live
        while True:
            if live.version != self._version:
                await self._pace.wait(live)
                self._version = live.version
                live.caught_up()
                if (blocks := live.snapshot()) != self._seen:
                    self._seen = blocks
                    return blocks
            elif live.done:
                live.raise_error()
                return None
            else:
                await live.wait()


class PartialsReader(Reader[Any]):
    """The value that is being written, as plain JSON values, each time that it has grown.

    To read its text costs as much as that is long, so it is read again when it has grown by a sixteenth: all of it together
    costs some seventeen times the last.
    """

    def __init__(self, live: LiveAnswer, output: OutputFormat[Any], *, as_tool: bool) -> None:
        self._live = live
        self._output = output
        self._written = WrittenValue(live.fold, as_tool=as_tool)
        self._seen: Any = NOTHING
        self._version = 0
        self._next_length = 1

    async def take(self) -> Any | None:
        live = self._live
        while True:
            if live.version != self._version:
                self._version = live.version
                live.caught_up()
                if (value := self._value()) is not NOTHING and value != self._seen:
                    self._seen = value
                    return value
            elif live.done:
                live.raise_error()
                return None
            else:
                await live.wait()

    def _value(self) -> Any:
        here = self._written.here()
        if here.length < self._next_length and not self._live.done:
            return NOTHING
        self._next_length = here.length + here.length // 16 + 1
        return self._output.read_partial(here.text())
