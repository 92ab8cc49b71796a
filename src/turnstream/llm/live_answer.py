"""An answer while it comes: what there is of it, who waits for more, and how far it may run ahead of them.

    the source's task ─► show ─► blocks, text, one queue for each reader of events ─► wake whoever waits
                          │
                          └─ room: wait while nobody has asked, and `buffer` events have come

Readers never hold each other up: the quickest decides how fast the source is read, and for a slower one what continues is
joined. Everything here happens in one event loop, between two awaits.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Sequence

from turnstream.core.blocks import Block
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import BlockDelta, BlockReset, BlockStart, TurnEvent
from turnstream.llm.event_queue import EventQueue, ToolHolder
from turnstream.llm.message_fold import MessageFold
from turnstream.llm.text_log import TextLog

logger = logging.getLogger(__name__)


class LiveAnswer:
    """`buffer`: events that may come before anybody asks for them. `as_it_comes` False: readers get nothing before
    the end; `tools_as_they_come` False: nothing of a tool's call before that is whole. `error`: why the answer broke off, once it is `done`."""

    def __init__(self, buffer: int, *, as_it_comes: bool = True, tools_as_they_come: bool = True) -> None:
        self.fold = MessageFold()
        self.text = TextLog()
        self.events = 0
        self.version = 0
        """Rises with each change."""
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self._buffer = buffer
        self._ahead = 0
        self._asked = False
        self._beginning: list[TurnEvent] | None = []
        self._last: tuple[TurnEvent, ...] = ()
        self._queues: list[weakref.ref[EventQueue]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._held = None if as_it_comes else EventQueue(0)
        self._tools = None if tools_as_they_come else ToolHolder()

    @property
    def done(self) -> bool:
        """Nothing more will come."""
        return self.ended.is_set()

    # -- the source's side ---------------------------------------------------------------------------------------

    def show(self, events: Sequence[TurnEvent]) -> None:
        """Tell readers of what has happened. Raises StreamBroken where text that was read is not repeated."""
        if self._tools is not None:
            events = self._tools.through(events)
        if self._held is not None:
            self._held.push(events)
        elif events:
            self._show(events)

    def _show(self, events: Sequence[TurnEvent]) -> None:
        for event in events:
            if type(event) is BlockDelta:
                if event.block_type == "text" and event.field == "text":
                    self.text.append(event.value)
            elif type(event) is BlockStart:
                self.text.begin_block(event.block_index)
            elif type(event) is BlockReset:
                self.text.take_back(event.block_index)
        self._hand_out(events)
        self._ahead += len(events)
        self.events += len(events)

    @property
    def is_full(self) -> bool:
        """As much has come as may before anybody asks for it."""
        return self._ahead >= self._buffer and not self._waiting

    async def room(self) -> None:
        """Wait until more may come. To be called after each `show` that leaves it full."""
        while self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end(self, error: BaseException | None = None, last: Sequence[TurnEvent] = ()) -> None:
        """Nothing more will come; `last` is the terminal event."""
        if self._held is not None:
            held, self._held = self._held.take(), None
            self._show(held)
        self.error = error
        self.ended.set()
        self._last = tuple(last)
        self._hand_out(last)

    def _hand_out(self, events: Sequence[TurnEvent]) -> None:
        if (beginning := self._beginning) is not None:
            if self._asked and len(beginning) + len(events) > self._buffer:
                self._beginning = None
            else:
                beginning.extend(events)
        for reference in self._queues:
            if (queue := reference()) is not None:
                queue.push(events)
        self.version += 1
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    # -- the readers' side ---------------------------------------------------------------------------------------

    def open_queue(self) -> EventQueue:
        """The events from now on, and before them what there is: each event from the first one on, as long as not many
        have come, else a catch-up of each block. The queue lives as long as the caller keeps it."""
        queue = EventQueue(self._buffer)
        late = self._beginning is None
        queue.push(self._catch_up() if self._beginning is None else self._beginning)
        logger.debug(
            "a reader begins after %d events, %s", self.events, "with a catch-up" if late else "at the first"
        )
        self._queues = [reference for reference in self._queues if reference() is not None]
        self._queues.append(weakref.ref(queue))
        return queue

    def _catch_up(self) -> list[TurnEvent]:
        events: list[TurnEvent] = [catchup_of(block) for block in self.fold.blocks]
        shown = self.fold.accumulator.shown
        if shown is not None and (self._tools is None or shown.block_type != "tool_use"):
            events.append(shown.catchup())
        return [*events, *self._last]

    def snapshot(self) -> tuple[Block, ...]:
        """The blocks as they are shown."""
        return self.fold.snapshot() if self._held is None else ()

    def caught_up(self) -> None:
        """A reader has all that there is: more may come."""
        self._ahead = 0
        self._asked = True
        if (room := self._room) is not None and not room.done():
            room.set_result(None)

    async def wait(self) -> None:
        """Until something has changed; at once when nothing more will."""
        self.caught_up()
        if self.done:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future in self._waiting:
                self._waiting.remove(future)
            raise

    async def wait_until_done(self, seconds: float | None = None) -> None:
        """Read on until nothing more will come, or at most so many seconds. (`ended.wait()` waits without reading.)"""
        try:
            async with asyncio.timeout(seconds):
                while not self.done:
                    await self.wait()
        except TimeoutError:
            pass

    def raise_error(self) -> None:
        """Raise why the answer broke off, if it did."""
        if self.error is not None:
            raise self.error
