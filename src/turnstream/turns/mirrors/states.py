"""The states of turns that other nodes write, read from the store, as items for mirrors."""

from __future__ import annotations

from collections.abc import Sequence

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.core.turn_events import BlockCatchup
from turnstream.store.base import Store, TurnRecord
from turnstream.store.journal.following import ReadUnfinished
from turnstream.store.journal.items import FeedItem, LogEntry, LogSnapshot
from turnstream.store.journal.pages import open_blocks, unbroken
from turnstream.store.queries import CountBlocks
from turnstream.turns.ending import terminal_event
from turnstream.turns.new_turns import history_of


async def read_items(store: Store, turn_id: str) -> Sequence[FeedItem]:
    """Return the items that bring a log to a turn's stored state.

    Return none if the journal is behind the rows, or if the turn is claimed and not recovered yet. Raises
    NotFound, StoreError.
    """
    turn, stored_seq, segments = await store.read(ReadUnfinished(turn_id=turn_id))
    if turn.status in TERMINAL_STATUSES:
        return await _ended(store, turn)
    if turn.taken_from is not None:
        return ()
    kept = unbroken(segments)
    if not kept:
        return [_snapshot(turn, stored_seq, stored_seq)]
    if kept[-1].seq < stored_seq:
        return ()
    block, first_seq = open_blocks(kept)[-1]
    return [_snapshot(turn, kept[-1].seq, stored_seq, block.catchup(), first_seq)]


async def _ended(store: Store, turn: TurnRecord) -> list[FeedItem]:
    total, completed = await store.read(CountBlocks(turn_id=turn.id))
    last = max(turn.last_seq, 1)
    terminal = terminal_event(turn, total_blocks=total, blocks_completed=completed)
    return [
        _snapshot(turn, last - 1, last - 1),
        LogEntry(turn.generation, last - 1, last, "", (terminal,)),
    ]


def _snapshot(
    turn: TurnRecord, last: int, stored_seq: int, block: BlockCatchup | None = None, first_seq: int = 0
) -> LogSnapshot:
    history = history_of(turn, last)
    start_seq, start = history.start or (0, None)
    return LogSnapshot(
        turn.generation,
        last,
        stored_seq,
        start if last else None,
        start_seq,
        history.resets,
        history.fences,
        block,
        first_seq,
    )
