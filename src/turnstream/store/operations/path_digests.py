"""The digest of the path up to an assistant's turn, computed from its rows when the turn ends."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, select

from turnstream.core.blocks import Block
from turnstream.store.base import BlockRecord
from turnstream.store.columns import decode_json
from turnstream.store.conversation_digest import NO_TURNS, entries_of, path_digest
from turnstream.store.database import driver_of
from turnstream.store.mapping import read_text
from turnstream.store.schema import blocks, turns

_previous = turns.alias("previous")
_PATH = (
    select(
        turns.c.prev_turn_id,
        _previous.c.path_digest,
        blocks.c.sequence,
        blocks.c.block_type,
        blocks.c.text_content,
        blocks.c.content,
        blocks.c.partial,
    )
    .select_from(
        turns.outerjoin(_previous, _previous.c.id == turns.c.prev_turn_id).outerjoin(
            blocks,
            and_(
                blocks.c.turn_id == turns.c.id,
                blocks.c.block_type != "thinking",
                blocks.c.block_type != "provider",
            ),
        )
    )
    .where(turns.c.id == bindparam("turn_id"))
    .order_by(blocks.c.sequence)
)
"""A row for each block that counts. A turn without such blocks has one row without a block."""


def answer_digest(connection: Connection, turn_id: str, unsaved: Sequence[BlockRecord]) -> str | None:
    """Return the digest of the path up to an assistant's turn with its stored blocks and `unsaved`.

    Return None if the path before the turn has no digest, or a block cannot be read.
    """
    # Every turn's end waits for this, so it is one statement, and goes straight to the driver.
    rows = driver_of(connection).rows(connection, _PATH, {"turn_id": turn_id})
    if not rows:
        return None
    previous_id, digest = rows[0][:2]
    if previous_id is None:
        digest = NO_TURNS
    if digest is None:
        return None
    said: dict[int, Block] = {}
    for _, _, sequence, block_type, text, content, partial in rows:
        if sequence is None:
            continue
        try:
            read = None if content is None else decode_json(content)
        except (TypeError, ValueError, RecursionError):
            return None
        said[sequence] = Block(sequence, block_type, read_text(text, turn_id), read, bool(partial))
    said |= {row.block.sequence: row.block for row in unsaved}
    return path_digest(digest, entries_of("assistant", [block for _, block in sorted(said.items())]))
