"""Reads of turns and blocks in portions, bounded by turns and bytes, for histories, paths and lists.

The reader thread reads a portion and converts it. No read holds the database for longer than one portion
takes. A large turn that has ended is cut between its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, literal, select

from turnstream.core.branches import Branches
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.errors import NotFound
from turnstream.store.base import BlockRecord, Query, TurnRecord
from turnstream.store.columns import encode_json
from turnstream.store.expressions import ByteLength
from turnstream.store.queries import ChatTree, GetTurn, path_of
from turnstream.store.rows import block_from_row
from turnstream.store.schema import blocks, chats, turns
from turnstream.store.settings import read_turns

_ROW_BYTES = 256
"""Bytes that count for a turn or a block, in addition to its text."""


class Bounds(NamedTuple):
    """Bounds of one portion. The portion ends with the turn or block that reaches one of them.

    Args:
        turns: Largest number of turns.
        size: Bytes of texts and contents.
        blocks: True to read the blocks of the turns. Default: True.
        repeats_settings: True to count the system prompt and params of every turn, for a caller that writes
            all of them. False to count them once for all turns that share them. Default: True.
    """

    turns: int
    size: int
    blocks: bool = True
    repeats_settings: bool = True


class PortionStart(NamedTuple):
    """The beginning of a portion: the turn's index in the list of ids, and the block's sequence."""

    turn: int
    block: int = 0


class TurnPiece(NamedTuple):
    """A turn, or a part of a turn.

    Args:
        number: The turn's index in the list of ids.
        turn: The turn's record. None in every part but the first.
        blocks: The blocks of this part.
        ends: False if more of the turn's blocks follow in the next portion.
    """

    number: int
    turn: TurnRecord | None
    blocks: Sequence[BlockRecord]
    ends: bool


class Portion(NamedTuple):
    """Pieces in order. `next`: the beginning of the next portion, or None after the last turn."""

    pieces: Sequence[TurnPiece]
    next: PortionStart | None


_BEGINNING = PortionStart(0)
_TURNS = (
    select(turns)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(turns.c.id.in_(bindparam("turn_ids", expanding=True)), chats.c.deleted_at.is_(None))
)
_EXISTS = (
    select(literal(1))
    .select_from(turns.join(chats, chats.c.id == turns.c.chat_id))
    .where(turns.c.id == bindparam("turn_id"), chats.c.deleted_at.is_(None))
)
_size = func.coalesce(ByteLength(blocks.c.text_content), 0) + func.coalesce(ByteLength(blocks.c.content), 0)
_SIZED = select(*blocks.c, _size.label("size"))
_BLOCKS_OF = _SIZED.where(blocks.c.turn_id.in_(bindparam("turn_ids", expanding=True))).order_by(
    blocks.c.turn_id, blocks.c.sequence
)
_BLOCKS_FROM = _SIZED.where(
    blocks.c.turn_id == bindparam("turn_id"), blocks.c.sequence >= bindparam("from_block")
).order_by(blocks.c.sequence)


class ReadPortion(Query[tuple[Any, PortionStart | None]], frozen=True, kw_only=True):
    """Reads one portion of turns. Returns `use(portion)`, and the beginning of the next portion or None.

    `use` runs in the reader thread. Raises NotFound if one of the turns was deleted.
    """

    turn_ids: Sequence[str]
    bounds: Bounds
    use: Callable[[Portion], Any]
    start: PortionStart = _BEGINNING

    def fetch(self, connection: Connection) -> tuple[Any, PortionStart | None]:
        portion = read_portion(connection, self.turn_ids, self.start, self.bounds)
        return self.use(portion), portion.next


class HistoryBeginning(Query[tuple[list[str], Portion]], frozen=True, kw_only=True):
    """Reads the ids of the turns from a chat's first turn to `turn_id`, and the first portion of these turns.

    Only the last `depth` turns of a longer path are read.

    Args:
        owner: Owner of the turn. Raises NotFound if the owner has no such turn. None: any owner, and both
            results are empty if the turn does not exist.
    """

    turn_id: str
    bounds: Bounds
    depth: int
    owner: str | None = None

    def fetch(self, connection: Connection) -> tuple[list[str], Portion]:
        if self.owner is not None:
            GetTurn(owner=self.owner, turn_id=self.turn_id).fetch(connection)
        turn_ids = path_of(connection, self.turn_id, self.depth)
        return turn_ids, read_portion(connection, turn_ids, _BEGINNING, self.bounds)


class OfTree(Query[Any], frozen=True, kw_only=True):
    """Reads the tree of a chat's turns. Returns `use(tree)`. `use` runs in the reader thread."""

    chat_id: str
    use: Callable[[Branches], Any]

    def fetch(self, connection: Connection) -> Any:
        return self.use(ChatTree(chat_id=self.chat_id).fetch(connection))


def read_portion(
    connection: Connection, turn_ids: Sequence[str], start: PortionStart, bounds: Bounds
) -> Portion:
    """Read turns from `start` on, until one of `bounds` is reached. Raises NotFound if a turn was deleted."""
    if start.turn >= len(turn_ids):
        return Portion((), None)
    if start.block:
        return _rest_of_turn(connection, turn_ids, start, bounds)
    some = _ascending(turn_ids, start.turn, bounds.turns)
    found = {turn.id: turn for turn in read_turns(connection, connection.execute(_TURNS, {"turn_ids": some}))}
    gathered = _GatheredRows(bounds)
    rows = connection.execute(_BLOCKS_OF, {"turn_ids": some}) if bounds.blocks else None
    place: PortionStart | None = start
    try:
        ahead = _RowsByTurn(iter(rows) if rows is not None else iter(()))
        for number, turn_id in enumerate(some, start.turn):
            if turn_id not in found:
                raise _gone()
            place = gathered.take(number, found[turn_id], ahead.of(turn_id))
            if gathered.is_full:
                break
    finally:
        if rows is not None:
            rows.close()
    return Portion(gathered.pieces, place if place.turn < len(turn_ids) else None)


def _rest_of_turn(
    connection: Connection, turn_ids: Sequence[str], start: PortionStart, bounds: Bounds
) -> Portion:
    turn_id = turn_ids[start.turn]
    if connection.execute(_EXISTS, {"turn_id": turn_id}).first() is None:
        raise _gone()
    gathered = _GatheredRows(bounds)
    rows = connection.execute(_BLOCKS_FROM, {"turn_id": turn_id, "from_block": start.block})
    try:
        place = gathered.take(start.turn, None, iter(rows))
    finally:
        rows.close()
    return Portion(gathered.pieces, place if place.turn < len(turn_ids) else None)


class _GatheredRows:
    """Collects the pieces of one portion, and counts their size."""

    def __init__(self, bounds: Bounds) -> None:
        self.pieces: list[TurnPiece] = []
        self._bounds = bounds
        self._size = 0
        self._counted: set[int] = set()

    @property
    def is_full(self) -> bool:
        return self._size >= self._bounds.size

    def take(self, number: int, turn: TurnRecord | None, rows: Iterator[Row[Any]]) -> PortionStart:
        """Add a turn with its blocks. Return the position after the last block that was added.

        A turn that has ended is cut at the bound. `turn` is None for the rest of a turn that was cut before.
        """
        # A running turn may retract blocks between two portions, so it is not cut.
        may_cut = turn is None or turn.status in TERMINAL_STATUSES
        if turn is not None:
            self._size += self._size_of(turn)
        found: list[BlockRecord] = []
        for row in rows:
            if may_cut and found and self.is_full:
                self.pieces.append(TurnPiece(number, turn, found, ends=False))
                return PortionStart(number, row.sequence)
            found.append(block_from_row(row[:-1]))
            self._size += row.size + _ROW_BYTES
        self.pieces.append(TurnPiece(number, turn, found, ends=True))
        return PortionStart(number + 1)

    def _size_of(self, turn: TurnRecord) -> int:
        size = _ROW_BYTES
        if self._bounds.repeats_settings or id(turn.params) not in self._counted:
            self._counted.add(id(turn.params))
            size += len(encode_json(turn.params)) + len((turn.system or "").encode("utf-8", "replace"))
        return size + (len(encode_json(turn.metadata)) if turn.metadata else 0)


class _RowsByTurn:
    """Splits rows, which are ordered by turn, into the rows of each turn. Reads one row ahead."""

    def __init__(self, rows: Iterator[Row[Any]]) -> None:
        self._rows = rows
        self._next_row = next(rows, None)

    def of(self, turn_id: str) -> Iterator[Row[Any]]:
        while (row := self._next_row) is not None and row.turn_id == turn_id:
            self._next_row = next(self._rows, None)
            yield row


def _ascending(turn_ids: Sequence[str], start: int, most: int) -> list[str]:
    """Return at most `most` ids from `start` on, as long as they ascend.

    Blocks are read in the order of their turns' ids. Ids ascend with time, so the list is rarely cut.
    """
    found = [turn_ids[start]]
    for turn_id in turn_ids[start + 1 : start + most]:
        if turn_id <= found[-1]:
            break
        found.append(turn_id)
    return found


def unchanged(portion: Portion) -> Portion:
    """Return the portion itself, for reads that do not convert it."""
    return portion


def _gone() -> NotFound:
    return NotFound("the chat was deleted while it was read: list your chats")
