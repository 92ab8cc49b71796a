"""The items that an owner publishes of its log: what the log has gained, and snapshots of its state."""

from __future__ import annotations

from turnstream.core.cursor import Cursor
from turnstream.core.open_block import DELTA_LENGTH
from turnstream.core.turn_events import BlockDelta, TurnEvent
from turnstream.store.journal.items import FeedItem, LogEntry, LogSnapshot, TurnItems
from turnstream.turnlog.ring import NUMBER_ONLY
from turnstream.turnlog.view import LogView


class LogPublisher:
    """Tracks how much of one log has been published."""

    __slots__ = ("_block", "_cursor", "_length")

    def __init__(self) -> None:
        self._cursor: Cursor | None = None
        self._block = -1
        self._length = 0
        """Sequence of the open block, and the characters of it that are published."""

    def next_part(self, log: LogView, *, is_settled: bool) -> TurnItems | None:
        """Return the items that the log has gained since the last call, or None if there are none.

        `is_settled` has no effect: events in the log are final.
        """
        del is_settled
        head, cursor = log.head_cursor, self._cursor
        if head == cursor or not head.seq:
            return None
        if cursor is None:
            cursor = Cursor(log.generation, 0)
        items = self._grown(log, cursor, head) or items_after(log, cursor)
        self._note(log)
        return TurnItems(log.turn_id, tuple(items))

    def whole_part(self, log: LogView) -> TurnItems | None:
        """Return the state of the log, or None if it has no event. The next part continues it."""
        if not log.head:
            return None
        snapshot = snapshot_of(log)
        items: list[FeedItem] = [snapshot]
        if log.terminal is not None:
            items.append(LogEntry(log.generation, snapshot.last, log.head, "", (log.terminal[1],)))
        self._note(log)
        return TurnItems(log.turn_id, tuple(items))

    def retract(self) -> None:
        """Do nothing: the reset is an event of the log."""

    def _grown(self, log: LogView, cursor: Cursor, head: Cursor) -> list[FeedItem]:
        """Return the entry of a log that has gained text only, or [] if it has gained more.

        This costs the same for any number of events.
        """
        block = log.open_block
        if (
            block is None
            or block.sequence != self._block
            or log.other_seq > cursor.seq
            or cursor.generation != head.generation
        ):
            return []
        text = block.text_since(self._length)
        if len(text) > DELTA_LENGTH:
            return []
        return [LogEntry(head.generation, cursor.seq, head.seq, text)]

    def _note(self, log: LogView) -> None:
        block = log.open_block
        self._cursor = log.head_cursor
        self._block, self._length = (-1, 0) if block is None else (block.sequence, block.length)


def items_after(log: LogView, cursor: Cursor, until: int | None = None) -> list[FeedItem]:
    """Return the items that the owner publishes of its log after `cursor`.

    A snapshot comes first if the ring has evicted the next event, if the provider has withdrawn one of the
    events, or if the feed has another generation.

    Args:
        cursor: The last event that the feed has.
        until: The last seq to publish. None means all.
    """
    items: list[FeedItem] = []
    after = cursor.seq
    if cursor.generation != log.generation or not log.covers(after):
        snapshot = snapshot_of(log)
        items.append(snapshot)
        after = snapshot.last
    texts: list[str] = []
    events: list[TurnEvent] = []
    length = 0
    first = after
    last = log.head if until is None else max(until, after)
    for seq, event in enumerate(log.ring.events_in(after, last), after + 1):
        if type(event) is BlockDelta and event.field in ("text", "partial_json"):
            if events or length > DELTA_LENGTH:
                items.append(LogEntry(log.generation, first, seq - 1, "".join(texts), tuple(events)))
                texts, events, first, length = [], [], seq - 1, 0
            texts.append(event.value)
            length += len(event.value)
        elif event is NUMBER_ONLY:
            return items_after(log, Cursor(-1, 0))
        else:
            events.append(event)
    if first < last:
        items.append(LogEntry(log.generation, first, last, "".join(texts), tuple(events)))
    return items


def snapshot_of(log: LogView) -> LogSnapshot:
    """Return the log's current state, without its terminal event: that event follows as an entry."""
    block, first_seq, _, head = log.open_state
    start_seq, start = log.start or (0, None)
    return LogSnapshot(
        log.generation,
        head if log.terminal is None else log.terminal[0] - 1,
        log.stored_seq,
        start,
        start_seq,
        log.resets,
        log.fences,
        None if block is None else block.catchup(),
        first_seq,
    )
