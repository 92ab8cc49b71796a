"""An answer as it comes: its blocks and text so far, its waiting readers, and the read-ahead buffer.

    the source's task ─► show ─► blocks, text, one queue for each reader of events ─► wake the waiting readers
                          │
                          └─ room: wait if `buffer` events have come that no reader has requested

Readers do not delay each other. The fastest reader decides how fast the source is read. For a slower reader,
waiting deltas are joined. All of it happens in one event loop, without awaits in between.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType

from turnstream.core.blocks import Block
from turnstream.core.open_block import catchup_of
from turnstream.core.turn_events import BlockDelta, BlockReset, BlockStart, TurnEvent
from turnstream.llm.event_queue import EventQueue, ToolHolder
from turnstream.llm.message_fold import MessageFold
from turnstream.llm.text_log import TextLog

logger = logging.getLogger(__name__)


class LiveAnswer:
    """One answer, while it is written.

    Attributes:
        error: The error that ended the answer, or None. Valid once the answer is `done`.

    Args:
        buffer: Events that may come before a reader requests them.
        as_it_comes: False: readers get nothing before the end.
        tools_as_they_come: False: readers get the events of a tool call only after the call is complete.
    """

    def __init__(self, buffer: int, *, as_it_comes: bool = True, tools_as_they_come: bool = True) -> None:
        self.fold = MessageFold()
        self.text = TextLog()
        self.events = 0
        self.version = 0
        """Rises with each change."""
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self._trace: TracebackType | None = None
        self.when_read: Callable[[], None] | None = None
        """Called once, when the first reader is at the end of the complete answer."""
        self._buffer = buffer
        self._ahead = 0
        self._has_reader = False
        self._beginning: list[TurnEvent] | None = []
        self._last: tuple[TurnEvent, ...] = ()
        self._queues: list[weakref.ref[EventQueue]] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._held = None if as_it_comes else EventQueue(0)
        self._tools = None if tools_as_they_come else ToolHolder()

    @property
    def done(self) -> bool:
        """True if no more events will come."""
        return self.ended.is_set()

    # -- the source's side -------------------------------------------------------------------------------

    def show(self, events: Sequence[TurnEvent]) -> None:
        """Show events to readers.

        Raises StreamBroken if text that was read is not repeated after a restart.
        """
        if self._tools is not None:
            events = self._tools.through(events)
        if self._held is not None:
            for event in events:
                if type(event) is BlockReset and event.is_withdrawal:
                    self._held.withdraw(event.block_index)
            self._held.push(events)
            return
        if not events:
            return
        for event in events:
            if type(event) is BlockDelta:
                if event.block_type == "text" and event.field == "text":
                    self.text.append(event.value)
            elif type(event) is BlockStart:
                self.text.begin_block(event.block_index)
            elif type(event) is BlockReset:
                self.text.retract(event.block_index, is_withdrawal=event.is_withdrawal)
                if event.is_withdrawal:
                    self._withdraw(event.block_index)
        self._hand_out(events)
        self._ahead += len(events)
        self.events += len(events)

    def _withdraw(self, index: int) -> None:
        """Drop the waiting events of blocks from `index` on, which no reader has taken."""
        self._beginning = None
        for reference in self._queues:
            if (queue := reference()) is not None:
                queue.withdraw(index)

    @property
    def is_full(self) -> bool:
        """True if the read-ahead buffer is full, and no reader waits."""
        return self._ahead >= self._buffer and not self._waiting

    async def room(self) -> None:
        """Wait until more events may come. Call it after each `show` that fills the buffer."""
        while self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end(self, error: BaseException | None = None, last: Sequence[TurnEvent] = ()) -> None:
        """End the answer.

        Args:
            error: The error that ended it. None if it is complete.
            last: The terminal event, if there is one.
        """
        if self._held is not None:
            held, self._held, self._tools = self._held.take(), None, None
            self.show(held)
        self.error = error
        self._trace = None if error is None else error.__traceback__
        self.ended.set()
        self._last = tuple(last)
        self._hand_out(last)

    def _hand_out(self, events: Sequence[TurnEvent]) -> None:
        if (beginning := self._beginning) is not None:
            if self._has_reader and len(beginning) + len(events) > self._buffer:
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

    # -- the readers' side -------------------------------------------------------------------------------

    def open_queue(self) -> EventQueue:
        """Return a queue of all events, past and future, for one reader.

        The past is every event, or, after many events, a catch-up of each block. The queue gets new events as
        long as the caller keeps it.
        """
        queue = EventQueue(self._buffer)
        late = self._beginning is None
        queue.push(self._catch_up() if self._beginning is None else self._beginning)
        logger.debug(
            "a reader begins after %d events, %s",
            self.events,
            "with a catch-up" if late else "from the first",
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
        """Return the blocks as readers may see them now."""
        return self.fold.snapshot() if self._held is None else ()

    def caught_up(self) -> None:
        """Note that a reader has all events so far, so that more may come."""
        self._ahead = 0
        self._has_reader = True
        if (room := self._room) is not None and not room.done():
            room.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change. Return at once if the answer is done."""
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
        """Read on until the answer is done. (`ended.wait()` waits without reading.)

        Args:
            seconds: Longest time to wait. None: no limit.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self.done:
                    await self.wait()
        except TimeoutError:
            pass

    def raise_error(self) -> None:
        """Raise the error that ended the answer, if there is one."""
        if self.error is not None:
            raise self.error.with_traceback(self._trace)  # without the lines of readers before this one

    def check_end(self) -> None:
        """Raise the error that ended the answer, or note that a reader is at its end."""
        self.raise_error()
        if self.when_read is not None:
            act, self.when_read = self.when_read, None
            act()
