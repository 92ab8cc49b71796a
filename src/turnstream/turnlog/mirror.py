"""Mirrors: logs that another node's owner feeds. The owner's items, and how a mirror adds them to its log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from turnstream.core.cursor import Cursor
from turnstream.core.open_block import OpenBlock, open_block_of
from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    UserRedacted,
)
from turnstream.turnlog.base import History, LogState
from turnstream.turnlog.feed import Feed, FeedItem, LogEntry, LogSnapshot
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.view import LogView

GAP_PAUSE = 0.05
"""Seconds between two reads of the store while the store has nothing beyond a gap."""


def items_after(log: LogView, cursor: Cursor, until: int | None = None) -> list[FeedItem]:
    """Return the items that the owner publishes of its log after `cursor`.

    A snapshot comes first if the ring has evicted the next event, or if the feed has another generation.

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
    first = after
    last = log.head if until is None else until
    for seq in range(after + 1, last + 1):
        event = log.ring.event_at(seq)
        if type(event) is BlockDelta and event.field in ("text", "partial_json"):
            if events:
                items.append(LogEntry(log.generation, first, seq - 1, "".join(texts), tuple(events)))
                texts, events, first = [], [], seq - 1
            texts.append(event.value)
        elif event is not None:
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


async def publish_gained(log: LogView, feed: Feed, cursor: Cursor) -> Cursor:
    """Publish what the owner's log has gained after `cursor`, and return the next cursor.

    Raises Fenced if another owner has published a newer generation.
    """
    items, head = items_after(log, cursor), log.head_cursor
    if items:
        await feed.publish(log.turn_id, items)
    return head


class Mirror:
    """Feeds a log from the items that its turn's owner publishes. The log has no other writer."""

    def __init__(self, log: TurnLog) -> None:
        self.log = log

    async def run(self, feed: Feed, read: Callable[[], Awaitable[LogSnapshot | None]]) -> None:
        """Follow the feed to the turn's end, or until the feed is closed.

        Args:
            read: Reads the turn's state from the store after a gap in the feed. Returns None if nothing newer
                is stored yet.
        """
        while self.log.terminal is None:
            async with aclosing(feed.follow(self.log.turn_id, self.log.head_cursor)) as items:
                async for item in items:
                    if not self.take(item):
                        break
                else:
                    return
            head, snapshot = self.log.head_cursor, await read()
            if snapshot is not None:
                self.take(snapshot)
            if self.log.head_cursor == head:
                await asyncio.sleep(GAP_PAUSE)

    def take(self, item: FeedItem) -> bool:
        """Add an item to the log and return True. Return False if the item does not continue the log.

        After False, the log is unchanged and needs a snapshot. Events that the log already has are skipped,
        and so are items of an older generation.
        """
        log = self.log
        if (item.generation, item.last) <= log.head_cursor:
            return True
        if isinstance(item, LogSnapshot):
            self._restore(item)
            return True
        known = log.head - item.after
        if item.generation != log.generation or known < 0 or 0 < known < item.texts:
            return False  # joined text cannot be split into its events
        if known == 0 and item.texts:
            if (block := log.open_block) is None:
                return False
            block.append(item.text)
            delta = BlockDelta(block.sequence, block.block_type, block.field, item.text)
            log.grow_joined(delta, item.texts)
        for event in item.events[max(0, known - item.texts) :]:
            self._show(event)
        return True

    def _restore(self, snapshot: LogSnapshot) -> None:
        start = None if snapshot.start is None else (snapshot.start_seq, snapshot.start)
        state = LogState(
            snapshot.generation,
            snapshot.last,
            History(start, snapshot.resets, snapshot.fences),
            snapshot.stored_seq,
            None if snapshot.open_block is None else open_block_of(snapshot.open_block),
            snapshot.open_first_seq,
        )
        if snapshot.generation == self.log.generation:
            self.log.skipped_to(state)
        else:
            self.log.taken_over(state)

    def _show(self, event: TurnEvent) -> None:
        """Append one event with the verb that the owner used."""
        log, block = self.log, self.log.open_block
        match event:
            case BlockStart():
                log.show([event], OpenBlock(event.block_index, 0, event.block_type, event.content))
            case BlockDelta():
                if block is not None:
                    _grow(block, event)
                log.append([event])
            case BlockStop():
                log.block_stored(event, None)
            case BlockReset():
                stays = block is not None and block.sequence < event.block_index
                log.retracted(event, block if stays else None)
            case TurnComplete() | TurnError() | TurnCancelled():
                if block is None and log.open_seq == log.head:
                    log.ended((), event)
                else:  # a block is open or unstored, so the owner's end is not stored
                    log.ended_unstored((), event)
            case (
                Notice()
                | Source()
                | UserRedacted()
                | Data(transient=False)
                | ApprovalRequest()
                | ApprovalResponse()
            ):
                log.event_stored(event)  # a catch-up skips a transient notice, which the store does not have
            case _:
                log.append([event])


def _grow(block: OpenBlock, delta: BlockDelta) -> None:
    if delta.field == "content":
        block.merge(delta.value)
    elif delta.field == "signature":
        block.sign(delta.value)
    else:
        block.append(delta.value)
