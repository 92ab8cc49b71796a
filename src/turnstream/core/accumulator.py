"""The one fold: StreamEvents into blocks, and into the TurnEvents that show the blocks.

Blocks of one model call fold in parallel, by the provider's index. They are shown one at a time, in the
order in which they began. `shown` is the block being shown. It stays here until its owner calls
`release()`, after the block is stored and its `block_stop` is in the log. So a reader of the log finds each
block in the store or here, at every moment.

    position = 0
    while True:
        position = accumulator.fold(events, position)
        show(accumulator.take_changes())
        if accumulator.finished is None:
            break                          # all events are folded
        store(accumulator.finished)
        show([accumulator.release()])      # its block_stop; the next block's events become the next changes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, assert_never

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.bounds import DEFAULT_MAX_LENGTH, FREE_BLOCKS, charge_of, content_size, too_large
from turnstream.core.message_facts import MAX_NOTICES, MessageFacts, Statistics, is_clean_end
from turnstream.core.open_block import (
    DELTA_LENGTH,
    CutBlock,
    OpenBlock,
    events_so_far,
    flush_carry,
    repair_surrogates,
    text_events,
)
from turnstream.core.origin import needs_seal, seal_of
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockDelta, BlockStop, DeltaField, TurnEvent

__all__ = ["DEFAULT_MAX_LENGTH", "MAX_NOTICES", "RESUMED", "Accumulator", "CutBlock", "Statistics"]

RESUMED = -1
"""Index, for a replacement call, of the block that was being shown when the call before it failed."""

_IMPLIED: dict[type, BlockType] = {TextDelta: "text", ThinkingDelta: "thinking", ToolInputDelta: "tool_use"}


class Accumulator(MessageFacts):
    """Folds one model call.

    The text of some tool calls does not show that the call is complete: calls without arguments, and calls
    with free text. Such a call finishes only after the model's end marker or the call's own result. It is cut
    off unless the model stopped cleanly (`is_clean_end`).
    """

    def __init__(self, first_sequence: int = 0, *, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        super().__init__()
        self.shown: OpenBlock | None = None
        self.finished: Block | None = None
        self.first_sequence = self.next_sequence = first_sequence
        self._max_length = max_length
        self._open: dict[int, OpenBlock] = {}
        self._implied: OpenBlock | None = None
        """The last block that a delta opened. No other block opened by a delta is open."""
        self._waiting: deque[OpenBlock] = deque()
        self._undecided: dict[str, OpenBlock] = {}
        self._is_over = False
        self._changes: list[TurnEvent] = []
        self._chunks = 0
        self._length = 0
        self._beside = 0
        self._begun = 0
        self._started_at: float | None = None
        self._updated_at: float | None = None

    @property
    def statistics(self) -> Statistics:
        """Counts of the folded events, and their times."""
        return Statistics(
            self._chunks, self._length, self._started_at, self._updated_at, self.stop is not None
        )

    def take_changes(self) -> list[TurnEvent]:
        """Return the events to show since the last call, in order.

        Block_stops come from `release` instead.
        """
        changes = self._changes
        self._changes = []
        return changes

    def fold(self, events: Sequence[StreamEvent], position: int = 0, now: float | None = None) -> int:
        """Fold `events[position:]` up to the end of the shown block.

        Return the position of the first event that is not folded. Raises StreamBroken if the answer exceeds
        its limit.

        Args:
            now: Time in seconds, for `statistics`. None leaves the times as they are.
        """
        if now is not None:
            self._updated_at = now
            if self._started_at is None:
                self._started_at = now
        total = len(events)
        while position < total and self.finished is None:
            event = events[position]
            if type(event) in _IMPLIED:
                position = self._fold_run(events, position, total)
            else:
                self._fold_rare(event)
                position += 1
        if self._length + self._beside > self._max_length:
            raise too_large(self._max_length)
        return position

    def extend_shown(self, events: Sequence[StreamEvent]) -> list[BlockDelta] | None:
        """Fold a batch that only adds text to the shown block, and return the deltas that show it.

        Return None, and fold nothing, for any other batch.
        """
        block = self.shown
        first: Any = events[0]
        if (
            block is None
            or first.__class__ is not block.grows_by
            or first.index != block.index
            or block.stopped
            or self._changes
        ):
            return None
        count = len(events)
        text: str = first.partial_json if block.grows_by is ToolInputDelta else first.text
        if count > 1:
            text, end = _run(events, 0, count)
            if end < count:
                return None
        if self._length + len(text) + self._beside > self._max_length:
            return None
        self._chunks += count
        return self._grow(block, text)

    def release(self) -> BlockStop:
        """Release the finished block, and return its block_stop.

        The next block's events become the next changes. Raises RuntimeError if no block is finished.
        """
        block = self.finished
        if block is None or self.shown is None:
            raise RuntimeError("no block is finished")
        self.finished = None
        self.shown = None
        if self._waiting:
            self._show_next()
        return BlockStop(block.sequence, block.block_type, block.partial)

    def end(self) -> None:
        """End the stream: stop all open blocks. They finish one by one, as in `fold`."""
        self._is_over = True
        for block in list(self._open.values()):
            self._stop(block)
        self._finish_shown()

    def resume(self) -> None:
        """Prepare for a call that replaces a failed one.

        Shown blocks stay. In the replacement's events, the shown block has the index RESUMED. Blocks that
        were not shown, and the facts of the failed call, are discarded.
        """
        self._waiting.clear()
        self._open.clear()
        shown = self.shown
        if shown is not None:
            shown.carry = ""
            shown.stopped = False
            self.next_sequence = shown.sequence + 1
            self._open[RESUMED] = shown
            shown.index = RESUMED
            self._implied = shown if shown.implicit else None
        self._undecided.clear()
        self.forget_call()

    def retract(self, sequence: int) -> None:
        """Discard the blocks from `sequence` on. The next block that begins gets that number."""
        self._waiting = deque(block for block in self._waiting if block.sequence < sequence)
        self._open = {index: block for index, block in self._open.items() if block.sequence < sequence}
        if self.shown is not None and self.shown.sequence >= sequence:
            self.shown = None
            self.finished = None
        self.next_sequence = min(self.next_sequence, sequence)

    def unstored(self) -> list[Block]:
        """Return the blocks that are not released, as if they were cut off now."""
        blocks = [*([self.shown] if self.shown is not None else ()), *self._waiting]
        return [block.finish(partial=self.is_cut(block)) for block in blocks]

    def is_cut(self, block: OpenBlock) -> bool:
        """Return True if `block` is cut off unless more events come."""
        return not block.stopped or (block.needs_clean_end and not is_clean_end(self.stop))

    def cut(self) -> tuple[list[TurnEvent], list[CutBlock]]:
        """End by an error or a cancel. Return the events to show, and the blocks that are not released."""
        events = self.take_changes()
        cuts: list[CutBlock] = []
        shown = self.shown
        if shown is not None:
            block = self.finished or self._finish_cut(shown, events)
            cuts.append(CutBlock(block, None, len(events)))
            events.append(BlockStop(block.sequence, block.block_type, block.partial))
        for waiting in self._waiting:
            start = len(events)
            events.extend(events_so_far(waiting))
            block = self._finish_cut(waiting, events)
            cuts.append(CutBlock(block, start, len(events)))
            events.append(BlockStop(block.sequence, block.block_type, block.partial))
        self._open.clear()
        self._waiting.clear()
        self.shown = None
        self.finished = None
        return events, cuts

    def _finish_cut(self, block: OpenBlock, events: list[TurnEvent]) -> Block:
        if block.carry:
            flush_carry(block)
            events.append(BlockDelta(block.sequence, block.block_type, block.field, "\ufffd"))
        return block.finish(partial=self.is_cut(block))

    def _fold_run(self, events: Sequence[StreamEvent], position: int, total: int) -> int:
        """Fold a run of adjacent deltas of one kind and block. They are shown as one delta."""
        first: Any = events[position]
        kind: type[Any] = first.__class__
        text, end = _run(events, position, total)
        block = self._open.get(first.index)
        if block is None or block.grows_by is not kind:
            block = self._open_implicitly(first.index, _IMPLIED[kind])
        deltas = self._grow(block, text)
        if block is self.shown:
            self._changes += deltas
        self._chunks += end - position
        return end

    def _grow(self, block: OpenBlock, text: str) -> list[BlockDelta]:
        """Add text to a block, and return the deltas that show it."""
        if block.carry or not text.isascii():
            text = repair_surrogates(block, text)
        if not text:
            return []
        length = len(text)
        block.parts.append(text)
        block.length += length
        self._length += length
        if length > DELTA_LENGTH:
            return text_events(block, block.field, text)
        return [BlockDelta(block.sequence, block.block_type, block.field, text)]

    def _fold_rare(self, event: StreamEvent) -> None:
        match event:
            case ContentBlockStart():
                if (old := self._open.get(event.index)) is not None:
                    self._stop(old)
                self._begin(event.index, event.block_type, event.content, implicit=False)
            case ContentBlockStop():
                if (block := self._open.get(event.index)) is not None:
                    self._stop(block)
            case SignatureDelta():
                block = self._open.get(event.index) or self._open_implicitly(event.index, "thinking")
                self._sign(block, event.signature)
            case ContentDelta():
                block = self._open.get(event.index) or self._open_implicitly(event.index, "provider")
                self._beside += content_size(event.content)
                block.merge(event.content)
                self._show_delta(block, "content", event.content)
            case MessageStop():
                self.note(event)
                self._finish_shown()
            case Metadata():
                size = self.metadata_size
                self.note(event)
                self._beside += self.metadata_size - size
            case MessageStart() | StreamNotice() | RedactContent() | StreamError():
                self.note(event)
            case TextDelta() | ThinkingDelta() | ToolInputDelta():
                raise AssertionError("handled in fold")
            case _:
                assert_never(event)

    def _sign(self, block: OpenBlock, signature: str) -> None:
        if not signature:
            return
        block.sign(signature)
        self._beside += len(signature)
        if block is self.shown:
            self._changes += text_events(block, "signature", signature)

    def _open_implicitly(self, index: int, block_type: BlockType) -> OpenBlock:
        """Open a block for a delta that has no start event.

        A block that was opened this way before stops now: on such streams a change of block is the stop.
        """
        for block in (self._implied, self._open.get(index)):
            if block is not None and self._open.get(block.index) is block:
                self._stop(block)
        self._implied = self._begin(index, block_type, None, implicit=True)
        return self._implied

    def _begin(
        self, index: int, block_type: BlockType, content: Content | None, *, implicit: bool
    ) -> OpenBlock:
        if content:
            self._beside += content_size(content)
        block = OpenBlock(self.next_sequence, index, block_type, content, implicit=implicit)
        self.next_sequence += 1
        self._begun += 1
        if self._begun > FREE_BLOCKS:
            self._beside += charge_of(block_type)
        if block_type == "tool_result":
            self._take_answer(block)
        self._open[index] = block
        self._waiting.append(block)
        if self.shown is None:
            self._show_next()
        return block

    def _stop(self, block: OpenBlock) -> None:
        del self._open[block.index]
        block.stopped = True
        if block.carry:
            flush_carry(block)
            self._show_delta(block, block.field, "\ufffd")
        if self._origin is not None and (
            block.signature_length or needs_seal(block.block_type, block.content)
        ):
            seal = seal_of(block.finish(), self._origin)
            block.merge(seal)
            self._show_delta(block, "content", seal)
        if block is self.shown:
            self._finish_shown()
        elif block.needs_clean_end:
            self._undecided[block.tool_use_id] = block

    def _take_answer(self, result: OpenBlock) -> None:
        """Mark the call of `result` as complete. The source itself ran it."""
        if (call := self._undecided.pop(result.tool_use_id, None)) is not None:
            call.answered = True
            self._finish_shown()

    def _finish_shown(self) -> None:
        """Finish the shown block if it has stopped, and if it is known to be complete or cut off."""
        block = self.shown
        if block is None or not block.stopped or self.finished is not None:
            return
        if self.stop is None and not self._is_over and block.needs_clean_end:
            self._undecided[block.tool_use_id] = block
            return
        self.finished = block.finish(partial=self.is_cut(block))

    def _show_next(self) -> None:
        block = self._waiting.popleft()
        self.shown = block
        self._changes.extend(events_so_far(block))
        if block.stopped:
            self._finish_shown()

    def _show_delta(self, block: OpenBlock, field: DeltaField, value: Any) -> None:
        if block is self.shown:
            self._changes.append(BlockDelta(block.sequence, block.block_type, field, value))


def _run(events: Sequence[Any], position: int, total: int) -> tuple[str, int]:
    """Return the joined text of the deltas from `position` on that have one kind and block, and their end."""
    first = events[position]
    kind: type[Any] = first.__class__
    index: int = first.index
    text: str = first.partial_json if kind is ToolInputDelta else first.text
    end = position + 1
    while end < total and (event := events[end]).__class__ is kind and event.index == index:
        end += 1
    if end - position > 1:
        run = events[position:end]
        texts = (
            [delta.partial_json for delta in run] if kind is ToolInputDelta else [delta.text for delta in run]
        )
        text = "".join(texts)
    return text, end
