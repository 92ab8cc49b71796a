"""The sink of a stream: keeps the answer in memory, and shows it to readers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, perf_counter
from typing import TypeVar

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import StreamEvent
from turnstream.core.turn_events import BlockReset, BlockStart, TurnEvent
from turnstream.errors import StreamBroken
from turnstream.llm.live_answer import LiveAnswer
from turnstream.model_loop.sink import OwnEvent, Progress, Settle
from turnstream.providers.base import Take

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class AnswerChanged(Exception):
    """Raised if a restarted answer does not repeat the text that readers have.

    It is not the provider's failure: another call would not help.
    """

    def __init__(self, failure: StreamBroken) -> None:
        super().__init__(str(failure))
        self.failure = failure


class MemorySink:
    """Keeps the blocks of one stream, and shows its events to the readers of `live`.

    Attributes:
        opened: Set once the first model call is answered (`answers` has it) or has failed.
    """

    def __init__(self, stream_id: str, live: LiveAnswer) -> None:
        self.label = f"stream {stream_id}"
        self.progress = Progress(monotonic())
        self.opened = asyncio.Event()
        self.answers: dict[int, Accumulator] = {}
        """Facts of each step's model call, by the step's number."""
        self.first_output: float | None = None
        """Time (`time.perf_counter`) of the first block."""
        self.on_answer: Callable[[], None] | None = None
        """Called each time that a model begins to answer."""
        self.before_reset: tuple[Block, ...] = ()
        """Blocks whose text readers have, as they were before the last reset."""
        self._live = live

    @property
    def is_ready(self) -> bool:
        """True if the read-ahead buffer has room."""
        return not self._live.is_full

    async def ready(self) -> None:
        """Wait until the read-ahead buffer has room."""
        await self._live.room()

    def taker(self, accumulator: Accumulator, step: int | None) -> Take:
        """Return the function that shows a batch of text while the task waits for its source."""
        live = self._live
        live.fold.accumulator = accumulator
        if step is not None:
            self.answers[step] = accumulator
            self.opened.set()
            if self.on_answer is not None:
                self.on_answer()
        extend, text, show = accumulator.extend_shown, live.text, live.show

        def take(events: Sequence[StreamEvent]) -> bool:
            if live.is_full or text.repeats:
                return False
            changes = extend(events)
            if changes is None:
                return False
            show(changes)
            return True

        return take

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        """Show events to readers. Raises AnswerChanged if text that was read is not repeated."""
        del open_block  # readers get it from the accumulator
        if not events:
            return
        if self.first_output is None and type(events[0]) is BlockStart:
            self.first_output = perf_counter()
        try:
            self._live.show(events)
        except StreamBroken as failure:
            raise AnswerChanged(failure) from failure

    async def keep(self, item: Block | BlockReset | OwnEvent, settle: Settle) -> None:
        """Append a block, or drop the blocks that a reset retracts. Then show the event."""
        live, fold = self._live, self._live.fold
        if isinstance(item, BlockReset) and (item.is_withdrawal or not live.text.repeats):
            self.before_reset = () if item.is_withdrawal else fold.snapshot()
        event, open_block = settle()
        if isinstance(item, Block):
            fold.blocks.append(item)
            logger.debug("block %d (%s) is whole", item.sequence, item.block_type)
        elif isinstance(item, BlockReset):
            fold.blocks = [block for block in fold.blocks if block.sequence < item.block_index]
        self.show([event], open_block)

    def wait(self, waiting: Awaitable[Value]) -> Awaitable[Value]:
        """Return `waiting` itself: closing a stream cancels its task at any await."""
        return waiting
