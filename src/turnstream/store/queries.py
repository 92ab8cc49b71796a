"""Every read there is. An owner of None stands for anybody: for the engine's own use, never for a request's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, case, desc, func, literal, select, tuple_, union_all

from turnstream.core.blocks import Block
from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.errors import NotFound
from turnstream.store.base import Annotation, Chat, JournalSegment, Query, StoredBlock, Turn
from turnstream.store.operations.chats import require_chat
from turnstream.store.rows import (
    annotation_from_row,
    block_from_row,
    chat_from_row,
    segment_from_row,
    turn_from_row,
)
from turnstream.store.schema import annotations, blocks, chats, idempotency, journal, turns

_IDS_PER_SELECT = 500


class GetChat(Query[Chat], frozen=True, kw_only=True):
    """Raises NotFound."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> Chat:
        statement = select(chats).where(chats.c.id == self.chat_id)
        if self.owner is not None:
            statement = statement.where(chats.c.owner == self.owner)
        return chat_from_row(_found(connection, statement, "no such chat"))


class ListChats(Query[list[Chat]], frozen=True, kw_only=True):
    """At most `limit` chats, the last updated first. `before`: only those after it in this order, given as the
    `(updated_at, id)` of a chat."""

    owner: str | None
    limit: int
    before: tuple[int, str] | None = None

    def fetch(self, connection: Connection) -> list[Chat]:
        statement = select(chats).order_by(desc(chats.c.updated_at), desc(chats.c.id)).limit(self.limit)
        if self.owner is not None:
            statement = statement.where(chats.c.owner == self.owner)
        if self.before is not None:
            statement = statement.where(tuple_(chats.c.updated_at, chats.c.id) < self.before)
        return [chat_from_row(row) for row in connection.execute(statement)]


class GetTurn(Query[Turn], frozen=True, kw_only=True):
    """Raises NotFound."""

    owner: str | None
    turn_id: str

    def fetch(self, connection: Connection) -> Turn:
        statement = select(turns).where(turns.c.id == self.turn_id)
        if self.owner is not None:
            statement = statement.where(turns.c.owner == self.owner)
        return turn_from_row(_found(connection, statement, "no such turn"))


class ListTurns(Query[list[Turn]], frozen=True, kw_only=True):
    """A chat's turns, all branches, in the order of their making. Raises NotFound."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> list[Turn]:
        if self.owner is not None:
            require_chat(connection, self.owner, self.chat_id)
        else:
            _found(connection, select(chats.c.id).where(chats.c.id == self.chat_id), "no such chat")
        # A user turn and its answer may have the same time: the user's is the first of them.
        order = (turns.c.created_at, desc(turns.c.role), turns.c.id)
        rows = connection.execute(select(turns).where(turns.c.chat_id == self.chat_id).order_by(*order))
        return [turn_from_row(row) for row in rows]


class BlocksAfter(Query[list[StoredBlock]], frozen=True, kw_only=True):
    """At most `limit` blocks of a turn that end after `seq`, from index `from_block` on, in order."""

    turn_id: str
    seq: int
    limit: int
    from_block: int = 0

    def fetch(self, connection: Connection) -> list[StoredBlock]:
        statement = (
            select(blocks)
            .where(
                blocks.c.turn_id == self.turn_id,
                blocks.c.sequence >= self.from_block,
                blocks.c.last_seq > self.seq,
            )
            .order_by(blocks.c.sequence)
            .limit(self.limit)
        )
        return [block_from_row(row) for row in connection.execute(statement)]


class CountBlocks(Query[tuple[int, int]], frozen=True, kw_only=True):
    """How many blocks a turn has, and how many of them were not cut off."""

    turn_id: str

    def fetch(self, connection: Connection) -> tuple[int, int]:
        whole = func.coalesce(func.sum(case((blocks.c.partial, 0), else_=1)), 0)
        statement = select(func.count(), whole).where(blocks.c.turn_id == self.turn_id)
        total, completed = connection.execute(statement).one()
        return total, int(completed)


class AllBlocks(Query[list[StoredBlock]], frozen=True, kw_only=True):
    turn_id: str

    def fetch(self, connection: Connection) -> list[StoredBlock]:
        statement = select(blocks).where(blocks.c.turn_id == self.turn_id).order_by(blocks.c.sequence)
        return [block_from_row(row) for row in connection.execute(statement)]


class BlocksOfTurns(Query[dict[str, list[StoredBlock]]], frozen=True, kw_only=True):
    """The blocks of each turn, in order; an empty list for a turn that has none."""

    turn_ids: Sequence[str]

    def fetch(self, connection: Connection) -> dict[str, list[StoredBlock]]:
        return _blocks_of_turns(connection, self.turn_ids)


class AnnotationsAfter(Query[list[Annotation]], frozen=True, kw_only=True):
    """At most `limit` annotations of a turn with a seq after `seq`, in order."""

    turn_id: str
    seq: int
    limit: int

    def fetch(self, connection: Connection) -> list[Annotation]:
        statement = (
            select(annotations)
            .where(annotations.c.turn_id == self.turn_id, annotations.c.seq > self.seq)
            .order_by(annotations.c.seq)
            .limit(self.limit)
        )
        return [annotation_from_row(row) for row in connection.execute(statement)]


class HistoryPath(Query[list[tuple[Turn, tuple[Block, ...]]]], frozen=True, kw_only=True):
    """The way from a chat's first turn to this one, both included, with their blocks; of a longer way its last
    `depth` turns. Empty for an unknown turn."""

    turn_id: str
    depth: int = 2000

    def fetch(self, connection: Connection) -> list[tuple[Turn, tuple[Block, ...]]]:
        path = (
            select(turns.c.id, turns.c.prev_turn_id, literal(1).label("distance"))
            .where(turns.c.id == self.turn_id)
            .cte("path", recursive=True)
        )
        path = path.union_all(
            select(turns.c.id, turns.c.prev_turn_id, path.c.distance + 1)
            .join(path, turns.c.id == path.c.prev_turn_id)
            .where(path.c.distance < self.depth)
        )
        statement = select(turns).join(path, turns.c.id == path.c.id).order_by(desc(path.c.distance))
        found = [turn_from_row(row) for row in connection.execute(statement)]
        stored = _blocks_of_turns(connection, [turn.id for turn in found])
        return [(turn, tuple(row.block for row in stored[turn.id])) for turn in found]


class UnfinishedTurns(Query[list[Turn]], frozen=True, kw_only=True):
    """Every assistant turn that has not ended, oldest first."""

    def fetch(self, connection: Connection) -> list[Turn]:
        unfinished = turns.c.status.not_in(sorted(TERMINAL_STATUSES))
        statement = select(turns).where(unfinished, turns.c.role == "assistant")
        rows = connection.execute(statement.order_by(turns.c.created_at, turns.c.id))
        return [turn_from_row(row) for row in rows]


class Journal(Query[list[JournalSegment]], frozen=True, kw_only=True):
    """A turn's journal: the segments of its open blocks, in order."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[JournalSegment]:
        statement = (
            select(journal)
            .where(journal.c.turn_id == self.turn_id)
            .order_by(journal.c.sequence, journal.c.number)
        )
        return [segment_from_row(row) for row in connection.execute(statement)]


class FindIdempotent(Query[tuple[str, str | None, str] | None], frozen=True, kw_only=True):
    """What a key began in a chat of the owner: request hash, user turn id, assistant turn id."""

    owner: str | None
    chat_id: str
    key: str

    def fetch(self, connection: Connection) -> tuple[str, str | None, str] | None:
        columns = (
            idempotency.c.request_hash,
            idempotency.c.user_turn_id,
            idempotency.c.assistant_turn_id,
        )
        statement = (
            select(*columns)
            .join(chats, chats.c.id == idempotency.c.chat_id)
            .where(idempotency.c.chat_id == self.chat_id, idempotency.c.key == self.key)
        )
        if self.owner is not None:
            statement = statement.where(chats.c.owner == self.owner)
        row = connection.execute(statement).first()
        return None if row is None else (row.request_hash, row.user_turn_id, row.assistant_turn_id)


class LastSeq(Query[int], frozen=True, kw_only=True):
    """The greatest seq that is stored of a turn, wherever it is; 0 when there is none."""

    turn_id: str

    def fetch(self, connection: Connection) -> int:
        known = union_all(
            select(func.max(turns.c.last_seq).label("seq")).where(turns.c.id == self.turn_id),
            select(func.max(blocks.c.last_seq)).where(blocks.c.turn_id == self.turn_id),
            select(func.max(annotations.c.seq)).where(annotations.c.turn_id == self.turn_id),
            select(func.max(journal.c.seq)).where(journal.c.turn_id == self.turn_id),
        ).subquery()
        return connection.execute(select(func.max(known.c.seq))).scalar() or 0


def _found(connection: Connection, statement: Select[Any], message: str) -> Row[Any]:
    row = connection.execute(statement).first()
    if row is None:
        raise NotFound(message)
    return row


def _blocks_of_turns(connection: Connection, turn_ids: Sequence[str]) -> dict[str, list[StoredBlock]]:
    found: dict[str, list[StoredBlock]] = {turn_id: [] for turn_id in turn_ids}
    for ids in _portions(list(found)):
        statement = (
            select(blocks).where(blocks.c.turn_id.in_(ids)).order_by(blocks.c.turn_id, blocks.c.sequence)
        )
        for row in connection.execute(statement):
            found[row.turn_id].append(block_from_row(row))
    return found


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_SELECT):
        yield ids[start : start + _IDS_PER_SELECT]
