"""Reads that only tests make."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, desc, select

from turnstream.store.base import Annotation, BlockRecord, Query, TurnRecord
from turnstream.store.queries import ANNOTATIONS_AFTER, BLOCKS_AFTER, GetChat
from turnstream.store.rows import annotation_from_row, block_from_row
from turnstream.store.schema import turns
from turnstream.store.settings import read_turns

# A user turn and its answer may have the same time: the user's is the first of them.
_TURNS_OF_CHAT = (
    select(turns)
    .where(turns.c.chat_id == bindparam("chat_id"))
    .order_by(turns.c.created_at, desc(turns.c.role), turns.c.id)
)


class ListTurns(Query[list[TurnRecord]], frozen=True, kw_only=True):
    """A chat's turns on all branches, in the order of their creation. Raises NotFound."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> list[TurnRecord]:
        GetChat(owner=self.owner, chat_id=self.chat_id).fetch(connection)
        return read_turns(connection, connection.execute(_TURNS_OF_CHAT, {"chat_id": self.chat_id}))


_SOME_BLOCKS_AFTER = BLOCKS_AFTER.limit(bindparam("most"))


class BlocksAfter(Query[list[BlockRecord]], frozen=True, kw_only=True):
    """At most `limit` blocks of a turn that end after `seq`, from index `from_block` on, in order."""

    turn_id: str
    seq: int
    limit: int
    from_block: int = 0

    def fetch(self, connection: Connection) -> list[BlockRecord]:
        values = {
            "turn_id": self.turn_id,
            "seq": self.seq,
            "from_block": self.from_block,
            "most": self.limit,
        }
        return [block_from_row(row) for row in connection.execute(_SOME_BLOCKS_AFTER, values)]


_SOME_ANNOTATIONS_AFTER = ANNOTATIONS_AFTER.limit(bindparam("most"))


class AnnotationsAfter(Query[list[Annotation]], frozen=True, kw_only=True):
    """At most `limit` annotations of a turn with a seq after `seq`, in order."""

    turn_id: str
    seq: int
    limit: int

    def fetch(self, connection: Connection) -> list[Annotation]:
        values = {"turn_id": self.turn_id, "after": self.seq, "most": self.limit}
        return [annotation_from_row(row) for row in connection.execute(_SOME_ANNOTATIONS_AFTER, values)]
