"""Conversions between rows and records.

Most of them follow from the fields of the records (`store.mapping`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from turnstream.core.admission import repair_text, unreadable
from turnstream.core.blocks import BLOCK_TYPES, Block
from turnstream.core.usage import LAST_MOMENT, CallAttempt
from turnstream.store.base import (
    Annotation,
    ApprovalRecord,
    BlockRecord,
    ChatRecord,
    NodeRecord,
    OutcomeRecord,
    TurnRecord,
)
from turnstream.store.columns import encode_json
from turnstream.store.mapping import RowMapping, bounded, log_unreadable, read_mapping, read_text

BlockRow = tuple[str, int, str, str, str | None, str | None, int, int, int, int]

chat_rows = RowMapping(ChatRecord)
turn_rows = RowMapping(TurnRecord)
outcome_columns = RowMapping(OutcomeRecord)
"""Columns of `turns` that are written when a turn ends."""
attempt_rows = RowMapping(CallAttempt)
approval_rows = RowMapping(ApprovalRecord)
node_rows = RowMapping(NodeRecord)

_read_moment = bounded(0, LAST_MOMENT, 0)


def attempt_row(turn_id: str, attempt: CallAttempt) -> tuple[Any, ...]:
    """Return the columns of `attempts` in order, as the driver takes them."""
    return (turn_id, *attempt_rows.row(attempt))


def block_from_row(row: Sequence[Any]) -> BlockRecord:
    """Return the record of a row of `blocks`, whose columns are in the order of the table."""
    turn_id, sequence, block_id, block_type, text, content, partial, first_seq, last_seq, created_at = row
    if content is not None:
        content = read_mapping(f"the content of block {sequence}", content, turn_id)
    if block_type not in BLOCK_TYPES:
        log_unreadable(turn_id, f"the type of block {sequence}")
        block_type, content = "text", unreadable("the stored type of this block is not known")
    sequence = sequence if sequence.__class__ is int else 0
    block = Block(sequence, block_type, read_text(text, turn_id), content, partial)
    return BlockRecord(block_id, turn_id, block, first_seq, last_seq, _read_moment(created_at, turn_id))


def block_row(stored: BlockRecord) -> BlockRow:
    """Return the columns of `blocks` in order, as the driver takes them."""
    block = stored.block
    text, content = block.text_content, block.content
    return (
        stored.turn_id,
        block.sequence,
        stored.id,
        block.block_type,
        None if text is None else repair_text(text),
        None if content is None else encode_json(content),
        int(block.partial),
        stored.first_seq,
        stored.last_seq,
        stored.created_at,
    )


def annotation_from_row(row: Row[Any]) -> Annotation:
    return Annotation(row.turn_id, row.seq, row.event.encode())
