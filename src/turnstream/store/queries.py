"""Reads of chats and turns. An owner of None means any owner: for the engine's own use, never for a request.

The statements are built once, because building a statement costs twice as much as running it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import (
    BigInteger,
    Connection,
    and_,
    bindparam,
    case,
    cast,
    desc,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from turnstream.core.branches import Branches, Node
from turnstream.core.usage import CallAttempt
from turnstream.errors import NotFound
from turnstream.store.base import BlockRecord, ChatRecord, Query, TurnRecord
from turnstream.store.rows import (
    attempt_rows,
    block_from_row,
    chat_rows,
)
from turnstream.store.schema import (
    agent_messages,
    annotations,
    attempts,
    blocks,
    chats,
    client_turns,
    idempotency,
    settings,
    turns,
)
from turnstream.store.settings import read_turns

_IDS_PER_SELECT = 500
_MOST_CURRENT = 100


_CHAT = select(chats).where(chats.c.id == bindparam("chat_id"), chats.c.deleted_at.is_(None))


class GetChat(Query[ChatRecord], frozen=True, kw_only=True):
    """Reads a chat. Raises NotFound if it does not exist or belongs to another owner."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> ChatRecord:
        row = connection.execute(_CHAT, {"chat_id": self.chat_id}).first()
        if row is None or self.owner not in {None, row.owner}:
            raise NotFound("no such chat: list your chats to find its id")
        return chat_rows.record(row)


class ListChats(Query[list[ChatRecord]], frozen=True, kw_only=True):
    """Reads at most `limit` chats, the last updated first.

    Attributes:
        before: The `(updated_at, id)` of a chat: only chats after it in this order are read. None: all.
    """

    owner: str | None
    limit: int
    before: tuple[int, str] | None = None

    def fetch(self, connection: Connection) -> list[ChatRecord]:
        statement = select(chats).order_by(desc(chats.c.updated_at), desc(chats.c.id)).limit(self.limit)
        statement = statement.where(chats.c.deleted_at.is_(None))
        if self.owner is not None:
            statement = statement.where(chats.c.owner == self.owner)
        if self.before is not None:
            statement = statement.where(tuple_(chats.c.updated_at, chats.c.id) < self.before)
        return [chat_rows.record(row) for row in connection.execute(statement)]


_TURN = (
    select(turns)
    .join(chats, chats.c.id == turns.c.chat_id)
    .where(turns.c.id == bindparam("turn_id"), chats.c.deleted_at.is_(None))
)


class GetTurn(Query[TurnRecord], frozen=True, kw_only=True):
    """Reads a turn. Raises NotFound if it does not exist or belongs to another owner."""

    owner: str | None
    turn_id: str

    def fetch(self, connection: Connection) -> TurnRecord:
        row = connection.execute(_TURN, {"turn_id": self.turn_id}).first()
        if row is None or self.owner not in {None, row.owner}:
            raise NotFound("no such turn: list the turns of its chat")
        (turn,) = read_turns(connection, [row])
        return turn


_first = turns.alias("first")
_STARTED_WITH = (
    select(turns)
    .join(
        _first,
        and_(
            turns.c.chat_id == _first.c.chat_id,
            turns.c.prev_turn_id.is_not_distinct_from(_first.c.prev_turn_id),
            turns.c.created_at > _first.c.created_at,
            turns.c.created_at < _first.c.created_at + bindparam("count"),
            turns.c.role == _first.c.role,
        ),
    )
    .where(_first.c.id == bindparam("turn_id"))
    .order_by(turns.c.created_at)
)


class StartedWith(Query[tuple[TurnRecord, ...]], frozen=True, kw_only=True):
    """Reads the alternatives that one request started with the answer `turn_id`, in their order.

    One write starts all `count` answers. It creates them at successive moments that no other turn has.
    """

    turn_id: str
    count: int

    def fetch(self, connection: Connection) -> tuple[TurnRecord, ...]:
        rows = connection.execute(_STARTED_WITH, {"turn_id": self.turn_id, "count": self.count}).all()
        return tuple(read_turns(connection, rows))


_DELETED_CHATS = (
    select(chats.c.id)
    .where(
        chats.c.deleted_at.is_not(None),
        or_(
            *(
                exists().where(table.c.chat_id == chats.c.id)
                for table in (turns, idempotency, settings, client_turns, agent_messages)
            )
        ),
    )
    .order_by(chats.c.deleted_at)
)


class DeletedChats(Query[list[str]], frozen=True, kw_only=True):
    """Reads the ids of the deleted chats that have rows left, besides their own."""

    def fetch(self, connection: Connection) -> list[str]:
        return list(connection.execute(_DELETED_CHATS).scalars())


_TREE_OF_CHAT = (
    select(turns.c.id, turns.c.prev_turn_id)
    .where(turns.c.chat_id == bindparam("chat_id"))
    .order_by(turns.c.created_at, desc(turns.c.role), turns.c.id)
)


class ChatTree(Query[Branches], frozen=True, kw_only=True):
    """Reads all turns of a chat as a tree."""

    chat_id: str

    def fetch(self, connection: Connection) -> Branches:
        rows = connection.execute(_TREE_OF_CHAT, {"chat_id": self.chat_id})
        return Branches(Node(row.id, row.prev_turn_id) for row in rows)


_BLOCKS = select(blocks).where(blocks.c.turn_id == bindparam("turn_id")).order_by(blocks.c.sequence)
BLOCKS_AFTER = _BLOCKS.where(
    blocks.c.sequence >= bindparam("from_block"), blocks.c.last_seq > bindparam("seq")
)


class AllBlocks(Query[list[BlockRecord]], frozen=True, kw_only=True):
    """Reads a turn's blocks, in order."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[BlockRecord]:
        return [block_from_row(row) for row in connection.execute(_BLOCKS, {"turn_id": self.turn_id})]


_BLOCK_COUNTS = select(func.count(), func.coalesce(func.sum(case((blocks.c.partial, 0), else_=1)), 0)).where(
    blocks.c.turn_id == bindparam("turn_id")
)


class CountBlocks(Query[tuple[int, int]], frozen=True, kw_only=True):
    """Reads the number of a turn's blocks, and the number of those that are complete."""

    turn_id: str

    def fetch(self, connection: Connection) -> tuple[int, int]:
        total, completed = connection.execute(_BLOCK_COUNTS, {"turn_id": self.turn_id}).one()
        return total, int(completed)


ANNOTATIONS_AFTER = (
    select(annotations)
    .where(annotations.c.turn_id == bindparam("turn_id"), annotations.c.seq > bindparam("after"))
    .order_by(annotations.c.seq)
)
_ANNOTATIONS = select(annotations.c.event).where(annotations.c.turn_id == bindparam("turn_id"))


class StoredEvents(Query[list[bytes]], frozen=True, kw_only=True):
    """Reads a turn's durable events that do not belong to a block, in order, as native JSON."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[bytes]:
        statement = _ANNOTATIONS.order_by(annotations.c.seq)
        found = connection.execute(statement, {"turn_id": self.turn_id}).scalars()
        return [event.encode() for event in found]


_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.turn_id == bindparam("turn_id"))
    .order_by(attempts.c.step, attempts.c.number)
)


class AttemptsOfTurn(Query[list[CallAttempt]], frozen=True, kw_only=True):
    """Reads the call attempts of an ended turn, in order."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[CallAttempt]:
        return [
            attempt_rows.record(row[1:]) for row in connection.execute(_ATTEMPTS, {"turn_id": self.turn_id})
        ]


_path = (
    select(turns.c.id, turns.c.prev_turn_id, literal(1).label("distance"))
    .where(turns.c.id == bindparam("turn_id"))
    .cte("path", recursive=True)
)
_path = _path.union_all(
    select(turns.c.id, turns.c.prev_turn_id, _path.c.distance + 1)
    .join(_path, turns.c.id == _path.c.prev_turn_id)
    .where(_path.c.distance < bindparam("depth"))
)
_PATH = select(_path.c.id).order_by(desc(_path.c.distance))


def path_of(connection: Connection, turn_id: str, depth: int) -> list[str]:
    """Return the ids of this turn and of at most `depth` - 1 turns before it, oldest first."""
    return list(connection.execute(_PATH, {"turn_id": turn_id, "depth": depth}).scalars())


# The condition of the index, with its values in the SQL itself, so that the database reads only the index.
RUNNING = turns.c.status.in_(
    bindparam("open", ["pending", "streaming", "waiting"], expanding=True, literal_execute=True)
)
_UNFINISHED = (
    select(turns.c.id)
    .where(
        RUNNING,
        turns.c.status != "waiting",
        turns.c.role != "user",
    )
    .order_by(turns.c.created_at, turns.c.id)
)


class UnfinishedTurns(Query[list[str]], frozen=True, kw_only=True):
    """Reads the ids of the turns that a task wrote and that have not ended, oldest first.

    Users' turns and waiting turns are left out. Rows may be unreadable.
    """

    def fetch(self, connection: Connection) -> list[str]:
        return list(connection.execute(_UNFINISHED).scalars())


_CURRENT = (
    select(turns)
    .where(
        turns.c.chat_id == bindparam("chat_id"),
        turns.c.role != "user",
        turns.c.imported.is_(False),
        or_(RUNNING, turns.c.completed_at >= bindparam("since")),
    )
    .order_by(desc(turns.c.id))
    .limit(_MOST_CURRENT)
)


class CurrentAnswers(Query[list[TurnRecord]], frozen=True, kw_only=True):
    """Reads the assistant's turns of a chat that have not ended, or ended at `since` or later.

    The newest turn is first. `since` is in microseconds since the epoch.
    """

    chat_id: str
    since: int

    def fetch(self, connection: Connection) -> list[TurnRecord]:
        values = {"chat_id": self.chat_id, "since": self.since}
        return read_turns(connection, list(connection.execute(_CURRENT, values)))


_IDEMPOTENT = (
    select(
        chats.c.owner,
        idempotency.c.request_hash,
        idempotency.c.user_turn_id,
        idempotency.c.assistant_turn_id,
    )
    .join(chats, chats.c.id == idempotency.c.chat_id)
    .where(
        idempotency.c.chat_id == bindparam("chat_id"),
        idempotency.c.key == bindparam("key"),
        chats.c.deleted_at.is_(None),
    )
)


class FindIdempotent(Query[tuple[str, str | None, str] | None], frozen=True, kw_only=True):
    """Reads the first use of a key in the owner's chat: request hash, user turn id, assistant turn id."""

    owner: str | None
    chat_id: str
    key: str

    def fetch(self, connection: Connection) -> tuple[str, str | None, str] | None:
        row = connection.execute(_IDEMPOTENT, {"chat_id": self.chat_id, "key": self.key}).first()
        if row is None or self.owner not in {None, row.owner}:
            return None
        return row.request_hash, row.user_turn_id, row.assistant_turn_id


# The casts make a number of any value in a damaged row. Recovery relies on numbers.
_known = union_all(
    select(func.max(cast(turns.c.last_seq, BigInteger)).label("seq")).where(
        turns.c.id == bindparam("turn_id")
    ),
    select(func.max(cast(blocks.c.last_seq, BigInteger))).where(blocks.c.turn_id == bindparam("turn_id")),
    select(func.max(cast(annotations.c.seq, BigInteger))).where(
        annotations.c.turn_id == bindparam("turn_id")
    ),
).subquery()
_LAST_SEQ = select(func.max(_known.c.seq))


class LastSeq(Query[int], frozen=True, kw_only=True):
    """Reads the greatest seq that is stored of a turn, without the journal. 0 if there is none."""

    turn_id: str

    def fetch(self, connection: Connection) -> int:
        return last_seq_of(connection, self.turn_id)


def last_seq_of(connection: Connection, turn_id: str) -> int:
    """Return the greatest seq that is stored of a turn, without the journal. 0 if there is none."""
    return connection.execute(_LAST_SEQ, {"turn_id": turn_id}).scalar() or 0


def portions_of(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in portions that fit into one statement."""
    for start in range(0, len(ids), _IDS_PER_SELECT):
        yield ids[start : start + _IDS_PER_SELECT]
