"""Reads for nodes that show the turns of other nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select, union_all

from turnstream.core.lifecycle import TurnStatus
from turnstream.store.base import Query, TurnRecord
from turnstream.store.journal.pages import JournalSegment
from turnstream.store.journal.queries import Journal
from turnstream.store.queries import RUNNING, GetTurn, last_seq_of, portions_of
from turnstream.store.schema import annotations, blocks, chats, journal, turns
from turnstream.store.settings import read_turns

_OF_OWNER = (
    select(journal.c.page, journal.c.segments)
    .where(journal.c.owner == bindparam("owner"))
    .order_by(journal.c.page)
)
_AFTER = _OF_OWNER.where(journal.c.page > bindparam("page")).limit(bindparam("most"))
_WITH = _OF_OWNER.where(journal.c.segments.contains(bindparam("turn_id")))
_HEADS = (
    select(turns.c.id, turns.c.node, turns.c.generation, turns.c.status)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(turns.c.id.in_(bindparam("ids", expanding=True)), chats.c.deleted_at.is_(None))
)
_ELSEWHERE = select(turns).where(
    turns.c.chat_id == bindparam("chat_id"),
    RUNNING,
    turns.c.status != "waiting",
    turns.c.node != bindparam("own_node"),
)


_stored = union_all(
    select(turns.c.id.label("turn_id"), turns.c.last_seq.label("seq")).where(
        turns.c.id.in_(bindparam("ids", expanding=True))
    ),
    select(blocks.c.turn_id, func.max(blocks.c.last_seq))
    .where(blocks.c.turn_id.in_(bindparam("ids", expanding=True)))
    .group_by(blocks.c.turn_id),
    select(annotations.c.turn_id, func.max(annotations.c.seq))
    .where(annotations.c.turn_id.in_(bindparam("ids", expanding=True)))
    .group_by(annotations.c.turn_id),
).subquery()
_LAST_SEQS = select(_stored.c.turn_id, func.max(_stored.c.seq).label("seq")).group_by(_stored.c.turn_id)


class PagesAfter(Query[list[tuple[int, str]]], frozen=True, kw_only=True):
    """Reads at most `most` pages of an owner after a page, each with its number, in order."""

    owner: str
    page: int
    most: int

    def fetch(self, connection: Connection) -> list[tuple[int, str]]:
        where = {"owner": self.owner, "page": self.page, "most": self.most}
        return [(row.page, row.segments) for row in connection.execute(_AFTER, where)]


class PagesWith(Query[list[str]], frozen=True, kw_only=True):
    """Reads the pages of an owner that name a turn, in order."""

    owner: str
    turn_id: str

    def fetch(self, connection: Connection) -> list[str]:
        where = {"owner": self.owner, "turn_id": self.turn_id}
        return [row.segments for row in connection.execute(_WITH, where)]


class TurnHead(NamedTuple):
    """The columns of a turn that show if another node has changed it.

    Attributes:
        stored_seq: The last seq that is stored, of a waiting turn. 0 for another turn.
    """

    node: str | None
    generation: int
    status: TurnStatus
    stored_seq: int


class ReadHeads(Query[Mapping[str, TurnHead]], frozen=True, kw_only=True):
    """Reads the heads of turns, by id. Turns that are gone are left out.

    A node reads those of all turns that it shows from other nodes, ten times a second.
    """

    turn_ids: tuple[str, ...]

    def fetch(self, connection: Connection) -> Mapping[str, TurnHead]:
        heads: dict[str, TurnHead] = {}
        for ids in portions_of(self.turn_ids):
            rows = connection.execute(_HEADS, {"ids": ids}).all()
            waiting = [row.id for row in rows if row.status == "waiting"]
            stored: dict[str, int] = {}
            if waiting:
                found = connection.execute(_LAST_SEQS, {"ids": waiting})
                stored = {row.turn_id: row.seq for row in found}
            for row in rows:
                heads[row.id] = TurnHead(row.node, row.generation, row.status, stored.get(row.id, 0))
        return heads


class TurnsElsewhere(Query[list[TurnRecord]], frozen=True, kw_only=True):
    """Reads the turns of a chat that other nodes than `node` write."""

    chat_id: str
    node: str

    def fetch(self, connection: Connection) -> list[TurnRecord]:
        return read_turns(
            connection, connection.execute(_ELSEWHERE, {"chat_id": self.chat_id, "own_node": self.node})
        )


class UnfinishedState(NamedTuple):
    """A turn's row, the last seq that is stored of the turn, and its open block, as of one moment."""

    turn: TurnRecord
    stored_seq: int
    segments: Sequence[JournalSegment]


class ReadUnfinished(Query[UnfinishedState], frozen=True, kw_only=True):
    """Reads the state of a turn that a node writes. Raises NotFound."""

    turn_id: str

    def fetch(self, connection: Connection) -> UnfinishedState:
        turn = GetTurn(owner=None, turn_id=self.turn_id).fetch(connection)
        segments: Sequence[JournalSegment] = ()
        if turn.node is not None:
            segments = Journal(turn_id=self.turn_id, owner=turn.node).fetch(connection)
        return UnfinishedState(turn, last_seq_of(connection, self.turn_id), segments)
