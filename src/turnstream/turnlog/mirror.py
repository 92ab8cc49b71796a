"""Mirrors: logs that another node's owner feeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Protocol

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
from turnstream.store.journal.items import FeedItem, LogSnapshot
from turnstream.turnlog.base import History, LogState
from turnstream.turnlog.feed import Feed
from turnstream.turnlog.log import TurnLog

GAP_PAUSE = 0.05
"""Seconds after a read of the store that did not close a gap."""


class ReadState(Protocol):
    """Reads a turn's state from the store, as items. Returns none if nothing newer is stored yet."""

    async def __call__(self) -> Sequence[FeedItem]: ...


async def follow(feed: Feed, cursor: Cursor, log_of: Callable[[], TurnLog | None], read: ReadState) -> None:
    """Feed the log of a turn until the turn ends, or until the feed has no more items of it.

    Args:
        cursor: Cursor of the log's last event.
        log_of: Returns the log, or None once no watcher holds it. Then feeding stops.
        read: Called after a gap in the feed.
    """
    if (log := log_of()) is None:
        return
    async with aclosing(feed.follow(log.turn_id, cursor)) as items:
        del log
        async for item in items:
            if (log := log_of()) is None or (log.terminal is not None and item.generation <= log.generation):
                return
            mirror = Mirror(log)
            if not mirror.take(item):
                for state in await read():
                    mirror.take(state)
                if not mirror.take(item):  # the next snapshot closes the gap
                    await asyncio.sleep(GAP_PAUSE)
            del mirror, log


class Mirror:
    """Feeds a log from the items that its turn's owner publishes. The log has no other writer."""

    def __init__(self, log: TurnLog) -> None:
        self.log = log

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
                    block.grow(event)
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
