"""Ending turns whose executor died, with what the journal kept (requirement D5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import groupby

from turnstream.core.blocks import Block, BlockType
from turnstream.core.cursor import next_generation_seq
from turnstream.core.identifiers import new_id
from turnstream.core.open_block import OpenBlock
from turnstream.store.base import JournalSegment, Store, StoredBlock, Turn
from turnstream.store.operations import TakeOver
from turnstream.store.queries import Journal, LastSeq, UnfinishedTurns
from turnstream.turns.clock import now_microseconds
from turnstream.turns.ending import LOST_EXECUTOR

logger = logging.getLogger(__name__)

_AT_ONCE = 64


async def recover_all(store: Store) -> int:
    """End every turn that a dead process left unfinished; how many there were. Raises StoreError.

    Several at a time: their transactions are committed in groups, and the server serves no one before the last.
    """
    turns = await store.read(UnfinishedTurns())
    remaining = iter(turns)

    async def recover_some() -> None:
        for turn in remaining:
            await recover(store, turn)

    await asyncio.gather(*(recover_some() for _ in range(min(len(turns), _AT_ONCE))))
    if turns:
        logger.warning("ended %d turns that a stopped server had left unfinished", len(turns))
    return len(turns)


async def recover(store: Store, turn: Turn) -> bool:
    """Take a turn over and end it, its open block kept as far as it was journalled; False if it had ended.

    The new generation's numbers begin above all that the lost executor can have given; what survived of the old one
    is its fence: a watcher whose cursor is above it will be told that text is gone.
    """
    survived = await store.read(LastSeq(turn_id=turn.id))
    segments = await store.read(Journal(turn_id=turn.id))
    seq = next_generation_seq(survived)
    kept = unbroken(segments)
    if len(kept) < len(segments):
        survived = kept[-1].seq if kept else segments[0].first_seq - 1
    now = now_microseconds()
    rows: list[StoredBlock] = []
    for block, first_seq in partial_blocks(kept):
        rows.append(StoredBlock(new_id(), turn.id, block, first_seq, seq, now))
        seq += 1
    return await store.write(
        TakeOver(
            turn_id=turn.id,
            expected_generation=turn.generation,
            generation=turn.generation + 1,
            fence_seq=survived,
            blocks=tuple(rows),
            status=LOST_EXECUTOR.status,
            error_code=LOST_EXECUTOR.code,
            error_message=LOST_EXECUTOR.message,
            last_seq=seq,
            completed_at=now,
        )
    )


def unbroken(segments: Sequence[JournalSegment]) -> Sequence[JournalSegment]:
    """Those before the first that is missing: the journal gives up text when storage fails for too long, and what came
    after is of no use without it."""
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else None
        expected = before.number + 1 if before is not None and before.sequence == segment.sequence else 0
        if segment.number != expected:
            return segments[:place]
    return segments


def partial_blocks(segments: Iterable[JournalSegment]) -> list[tuple[Block, int]]:
    """The blocks that journal segments hold, cut off where the journal ends, each with its first seq."""
    blocks: list[tuple[Block, int]] = []
    for sequence, group in groupby(segments, key=lambda segment: segment.sequence):
        pieces = list(group)
        block_type: BlockType = pieces[0].block_type  # type: ignore[assignment]
        block = OpenBlock(sequence, 0, block_type, None, implicit=False)
        for piece in pieces:
            block.append(piece.text)
            if piece.content is not None:
                block.content = piece.content
        blocks.append((block.finish(partial=True), pieces[0].first_seq))
    return blocks
