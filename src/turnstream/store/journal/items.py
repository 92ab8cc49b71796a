"""Items of turns' logs: the events that a log has gained, and states from which a log continues.

Pages of nodes carry items. So a page has all events of the turns of its owner, and other nodes can show them.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from turnstream.core.cursor import Fence, ResetRecord
from turnstream.core.open_block import OpenBlock, open_block_of
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.wires.base import StoredAnswer


class LogEntry(msgspec.Struct, frozen=True, tag="entry", omit_defaults=True):
    """The events of a log after the event `after`, up to the event `last`.

    Attributes:
        text: Text that the open block gained, joined. It comes before `events`. It covers the numbers that
            `events` leave.
        events: The other events, one number each.
    """

    generation: int
    after: int
    last: int
    text: str = ""
    events: tuple[TurnEvent, ...] = ()

    @property
    def texts(self) -> int:
        """Number of events that `text` was joined from."""
        return self.last - self.after - len(self.events)

    @property
    def ends(self) -> bool:
        """True if the last event is the turn's terminal event."""
        return bool(self.events) and isinstance(self.events[-1], TurnComplete | TurnError | TurnCancelled)


class LogSnapshot(msgspec.Struct, frozen=True, tag="snapshot", omit_defaults=True):
    """The state from which a log continues after the event `last` without any earlier event.

    Attributes:
        stored_seq: The last seq that the store holds.
        start_seq: The seq of `start`.
        open_block: The open block with all of its text, or None.
        open_first_seq: The seq of the open block's first event.
    """

    generation: int
    last: int
    stored_seq: int
    start: TurnStart | None = None
    start_seq: int = 0
    resets: tuple[ResetRecord, ...] = ()
    fences: tuple[Fence, ...] = ()
    open_block: BlockCatchup | None = None
    open_first_seq: int = 0

    @property
    def ends(self) -> bool:
        """Always False: a terminal event is sent in an entry."""
        return False


FeedItem: TypeAlias = LogEntry | LogSnapshot


class TurnItems(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive items of one turn, as a page carries them.

    `answer`: the running answer of the model, if its provider stores it and the pages do not name it yet.
    """

    turn_id: str
    items: tuple[FeedItem, ...]
    answer: StoredAnswer | None = None


def item_length(item: FeedItem) -> int:
    """Return the characters of text in an item."""
    if isinstance(item, LogSnapshot):
        block = item.open_block
        return 0 if block is None else len(block.accumulated_text or block.input_partial or "")
    return len(item.text)


class FoldedItems:
    """Folds a turn's items, as far as recovery needs them: the open block.

    An item that does not continue the earlier ones is a gap. Then nothing is known until the next snapshot.

    Attributes:
        generation: Generation of the last item, or 0.
        last: Seq of the last event that was folded, or 0.
        block: The open block, or None.
        first_seq: Seq of the open block's first event.
    """

    def __init__(self) -> None:
        self.generation = self.last = self.first_seq = 0
        self.block: OpenBlock | None = None
        self._is_known = False

    def lose(self) -> None:
        """Note that items may be missing here."""
        self._is_known, self.block = False, None

    def add(self, item: FeedItem) -> None:
        """Fold the next item. Items that were folded before change nothing."""
        if isinstance(item, LogSnapshot):
            if (item.generation, item.last) > (self.generation, self.last) or not self._is_known:
                self._restore(item)
            return
        if (item.generation, item.last) <= (self.generation, self.last):
            return
        known = self.last - item.after
        if item.after == 0 and not self.generation:
            self._is_known, self.generation, known = True, item.generation, 0
        if item.generation != self.generation or known < 0 or 0 < known < item.texts:
            self.lose()
        if not self._is_known:
            self.generation, self.last = item.generation, item.last
            return
        if known == 0 and self.block is not None:
            self.block.append(item.text)
        skipped = max(0, known - item.texts)
        first = item.last - len(item.events) + 1
        for seq, event in enumerate(item.events[skipped:], first + skipped):
            self._show(seq, event)
        self.last = item.last

    def _restore(self, snapshot: LogSnapshot) -> None:
        self._is_known = True
        self.generation, self.last = snapshot.generation, snapshot.last
        self.block = None if snapshot.open_block is None else open_block_of(snapshot.open_block)
        self.first_seq = snapshot.open_first_seq

    def _show(self, seq: int, event: TurnEvent) -> None:
        match event:
            case BlockStart():
                self.block = OpenBlock(event.block_index, 0, event.block_type, event.content)
                self.first_seq = seq
            case BlockDelta() if self.block is not None:
                self.block.grow(event)
            case BlockStop() | TurnComplete() | TurnError() | TurnCancelled():
                self.block = None
            case BlockReset() if self.block is not None and self.block.sequence >= event.block_index:
                self.block = None
            case _:
                pass
