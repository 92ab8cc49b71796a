"""Reads of a turn's stored events for watchers that catch up: rows in order, and single large blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from heapq import merge
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, func, select

from turnstream.store.base import Annotation, BlockRecord, Query
from turnstream.store.queries import ANNOTATIONS_AFTER, BLOCKS_AFTER
from turnstream.store.rows import annotation_from_row, block_from_row
from turnstream.store.schema import blocks

Known = TypeVar("Known")
_FIRST_BLOCK = (
    select(blocks.c.id, blocks.c.last_seq)
    .where(
        blocks.c.turn_id == bindparam("turn_id"),
        blocks.c.sequence >= bindparam("from_block"),
        blocks.c.last_seq > bindparam("seq"),
    )
    .order_by(blocks.c.sequence)
    .limit(1)
)
_BLOCK = select(blocks).where(
    blocks.c.turn_id == bindparam("turn_id"), blocks.c.sequence == bindparam("sequence")
)
_COUNT_UNTIL = (
    select(func.count())
    .select_from(blocks)
    .where(blocks.c.turn_id == bindparam("turn_id"), blocks.c.last_seq <= bindparam("seq"))
)


@contextmanager
def read_archive_after(
    connection: Connection, turn_id: str, seq: int, from_block: int, known: Callable[[str], Known | None]
) -> Generator[Iterator[BlockRecord | Annotation | Known], None, None]:
    """Yield an iterator over a turn's blocks and annotations in the order of its events.

    The iterator reads rows one by one.

    Args:
        connection: The connection to read from.
        turn_id: The turn.
        seq: Only rows that end after this seq are read.
        from_block: Sequence of the first block to read.
        known: Called with the id of the first block. Its result, unless it is None, replaces this block and
            all blocks after it.
    """
    values = {"turn_id": turn_id, "seq": seq, "after": seq, "from_block": from_block}
    found_annotations = connection.execute(ANNOTATIONS_AFTER, values)
    lasting = ((row.seq, row) for row in map(annotation_from_row, found_annotations))
    first = connection.execute(_FIRST_BLOCK, values).first()
    if first is not None and (instead := known(first.id)) is not None:
        found_blocks, ended = None, iter([(first.last_seq, instead)])
    else:
        found_blocks = connection.execute(BLOCKS_AFTER, values)
        ended = ((row.last_seq, row) for row in map(block_from_row, found_blocks))
    try:
        yield (row for _, row in merge(ended, lasting, key=itemgetter(0)))
    finally:
        found_annotations.close()
        if found_blocks is not None:
            found_blocks.close()


class ArchivedAfter(Query[Any], frozen=True, kw_only=True):
    """Reads the rows of `read_archive_after`. Returns `use(rows)`. `use` runs in the reader thread."""

    turn_id: str
    seq: int
    from_block: int
    known: Callable[[str], Any]
    use: Callable[[Iterator[Any]], Any]

    def fetch(self, connection: Connection) -> Any:
        with read_archive_after(connection, self.turn_id, self.seq, self.from_block, self.known) as rows:
            return self.use(rows)


class ArchivedBlock(Query[Any], frozen=True, kw_only=True):
    """Reads one block of a turn. Returns `use(block)`, or None if the block does not exist.

    `use` runs in the reader thread.
    """

    turn_id: str
    sequence: int
    use: Callable[[BlockRecord], Any]

    def fetch(self, connection: Connection) -> Any:
        row = connection.execute(_BLOCK, {"turn_id": self.turn_id, "sequence": self.sequence}).first()
        return None if row is None else self.use(block_from_row(row))


class CountBlocksUntil(Query[int], frozen=True, kw_only=True):
    """Reads the number of a turn's blocks that end at `seq` or before."""

    turn_id: str
    seq: int

    def fetch(self, connection: Connection) -> int:
        return connection.execute(_COUNT_UNTIL, {"turn_id": self.turn_id, "seq": self.seq}).scalar() or 0
