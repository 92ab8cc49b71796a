"""Every read there is. An owner of None stands for anybody: for the engine's own use, never for a request's.

The statements are built once: building one costs twice what running it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    bindparam,
    case,
    cast,
    desc,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from turnstream.core.blocks import Block
from turnstream.core.branches import Branches, Node
from turnstream.core.usage import CallAttempt
from turnstream.errors import NotFound
from turnstream.store.base import Annotation, BlockRecord, ChatRecord, JournalSegment, Query, TurnRecord
from turnstream.store.pages import read_pages
from turnstream.store.rows import (
    annotation_from_row,
    attempt_rows,
    block_from_row,
    chat_rows,
)
from turnstream.store.schema import annotations, attempts, blocks, chats, idempotency, journal, turns
from turnstream.store.settings import read_turns

_IDS_PER_SELECT = 500


_CHAT = select(chats).where(chats.c.id == bindparam("chat_id"), chats.c.deleted_at.is_(None))


class GetChat(Query[ChatRecord], frozen=True, kw_only=True):
    """Raises NotFound, for another owner's chat too."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> ChatRecord:
        row = connection.execute(_CHAT, {"chat_id": self.chat_id}).first()
        if row is None or self.owner not in {None, row.owner}:
            raise NotFound("no such chat")
        return chat_rows.record(row)


class ListChats(Query[list[ChatRecord]], frozen=True, kw_only=True):
    """At most `limit` chats, the last updated first. `before`: only those after it in this order, given as the
    `(updated_at, id)` of a chat."""

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
    """Raises NotFound, for another owner's turn too."""

    owner: str | None
    turn_id: str

    def fetch(self, connection: Connection) -> TurnRecord:
        row = connection.execute(_TURN, {"turn_id": self.turn_id}).first()
        if row is None or self.owner not in {None, row.owner}:
            raise NotFound("no such turn")
        (turn,) = read_turns(connection, [row])
        return turn


# A user turn and its answer may have the same time: the user's is the first of them.
_TURNS_OF_CHAT = (
    select(turns)
    .where(turns.c.chat_id == bindparam("chat_id"))
    .order_by(turns.c.created_at, desc(turns.c.role), turns.c.id)
)


class ListTurns(Query[list[TurnRecord]], frozen=True, kw_only=True):
    """A chat's turns, all branches, in the order of their making. Raises NotFound."""

    owner: str | None
    chat_id: str

    def fetch(self, connection: Connection) -> list[TurnRecord]:
        GetChat(owner=self.owner, chat_id=self.chat_id).fetch(connection)
        return read_turns(connection, connection.execute(_TURNS_OF_CHAT, {"chat_id": self.chat_id}))


_DELETED_CHATS = select(chats.c.id).where(chats.c.deleted_at.is_not(None)).order_by(chats.c.deleted_at)


class DeletedChats(Query[list[str]], frozen=True, kw_only=True):
    """Ids of the chats that are deleted, and have rows left."""

    def fetch(self, connection: Connection) -> list[str]:
        return list(connection.execute(_DELETED_CHATS).scalars())


_TREE_OF_CHAT = (
    select(turns.c.id, turns.c.prev_turn_id)
    .where(turns.c.chat_id == bindparam("chat_id"))
    .order_by(turns.c.created_at, desc(turns.c.role), turns.c.id)
)


class ChatTree(Query[Branches], frozen=True, kw_only=True):
    """All turns of a chat as a tree."""

    chat_id: str

    def fetch(self, connection: Connection) -> Branches:
        rows = connection.execute(_TREE_OF_CHAT, {"chat_id": self.chat_id})
        return Branches(Node(row.id, row.prev_turn_id) for row in rows)


_TURNS_BY_ID = select(turns).where(turns.c.id.in_(bindparam("turn_ids", expanding=True)))


class TurnsById(Query[list[TurnRecord]], frozen=True, kw_only=True):
    """The turns of these ids, in their order; those that are gone are left out."""

    turn_ids: Sequence[str]

    def fetch(self, connection: Connection) -> list[TurnRecord]:
        found: dict[str, TurnRecord] = {}
        for turn_ids in _portions(self.turn_ids):
            rows = connection.execute(_TURNS_BY_ID, {"turn_ids": turn_ids})
            found.update((turn.id, turn) for turn in read_turns(connection, rows))
        return [found[turn_id] for turn_id in self.turn_ids if turn_id in found]


_BLOCKS = select(blocks).where(blocks.c.turn_id == bindparam("turn_id")).order_by(blocks.c.sequence)
BLOCKS_AFTER = _BLOCKS.where(
    blocks.c.sequence >= bindparam("from_block"), blocks.c.last_seq > bindparam("seq")
)
_SOME_BLOCKS_AFTER = BLOCKS_AFTER.limit(bindparam("most"))
_BLOCKS_OF_TURNS = (
    select(blocks)
    .where(blocks.c.turn_id.in_(bindparam("turn_ids", expanding=True)))
    .order_by(blocks.c.turn_id, blocks.c.sequence)
)


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


class AllBlocks(Query[list[BlockRecord]], frozen=True, kw_only=True):
    """A turn's blocks, in order."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[BlockRecord]:
        return [block_from_row(row) for row in connection.execute(_BLOCKS, {"turn_id": self.turn_id})]


_BLOCK_COUNTS = select(func.count(), func.coalesce(func.sum(case((blocks.c.partial, 0), else_=1)), 0)).where(
    blocks.c.turn_id == bindparam("turn_id")
)


class CountBlocks(Query[tuple[int, int]], frozen=True, kw_only=True):
    """How many blocks a turn has, and how many of them were not cut off."""

    turn_id: str

    def fetch(self, connection: Connection) -> tuple[int, int]:
        total, completed = connection.execute(_BLOCK_COUNTS, {"turn_id": self.turn_id}).one()
        return total, int(completed)


class BlocksOfTurns(Query[dict[str, list[BlockRecord]]], frozen=True, kw_only=True):
    """The blocks of each turn, in order; an empty list for a turn that has none."""

    turn_ids: Sequence[str]

    def fetch(self, connection: Connection) -> dict[str, list[BlockRecord]]:
        found: dict[str, list[BlockRecord]] = {turn_id: [] for turn_id in self.turn_ids}
        for turn_ids in _portions(list(found)):
            for row in connection.execute(_BLOCKS_OF_TURNS, {"turn_ids": turn_ids}):
                found[row.turn_id].append(block_from_row(row))
        return found


ANNOTATIONS_AFTER = (
    select(annotations)
    .where(annotations.c.turn_id == bindparam("turn_id"), annotations.c.seq > bindparam("after"))
    .order_by(annotations.c.seq)
)
_SOME_ANNOTATIONS_AFTER = ANNOTATIONS_AFTER.limit(bindparam("most"))


class AnnotationsAfter(Query[list[Annotation]], frozen=True, kw_only=True):
    """At most `limit` annotations of a turn with a seq after `seq`, in order."""

    turn_id: str
    seq: int
    limit: int

    def fetch(self, connection: Connection) -> list[Annotation]:
        values = {"turn_id": self.turn_id, "after": self.seq, "most": self.limit}
        return [annotation_from_row(row) for row in connection.execute(_SOME_ANNOTATIONS_AFTER, values)]


_ATTEMPTS = (
    select(attempts)
    .where(attempts.c.turn_id == bindparam("turn_id"))
    .order_by(attempts.c.step, attempts.c.number)
)


class AttemptsOfTurn(Query[list[CallAttempt]], frozen=True, kw_only=True):
    """The calls that were tried for an ended turn, in order."""

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
    """Return the ids from a chat's first turn to this one; of a longer way its last `depth`."""
    return list(connection.execute(_PATH, {"turn_id": turn_id, "depth": depth}).scalars())


class HistoryPath(Query[list[tuple[TurnRecord, tuple[Block, ...]]]], frozen=True, kw_only=True):
    """The way from a chat's first turn to this one, both included, with their blocks; of a longer way its last
    `depth` turns. Empty for an unknown turn. It is one read: `turns.histories` reads a history in portions."""

    turn_id: str
    depth: int = 2000

    def fetch(self, connection: Connection) -> list[tuple[TurnRecord, tuple[Block, ...]]]:
        turn_ids = path_of(connection, self.turn_id, self.depth)
        path = TurnsById(turn_ids=turn_ids).fetch(connection)
        stored = BlocksOfTurns(turn_ids=turn_ids).fetch(connection)
        return [(turn, tuple(row.block for row in stored[turn.id])) for turn in path]


# As the index has it, and in the statement itself: the database then looks at nothing else.
_RUNNING = turns.c.status.in_(
    bindparam("open", ["pending", "streaming", "waiting"], expanding=True, literal_execute=True)
)
_UNFINISHED = (
    select(turns.c.id)
    .where(
        _RUNNING,
        turns.c.role != "user",
    )
    .order_by(turns.c.created_at, turns.c.id)
)


class UnfinishedTurns(Query[list[str]], frozen=True, kw_only=True):
    """Ids of the turns that have not ended, but for users' own, oldest first. Their rows may be unreadable."""

    def fetch(self, connection: Connection) -> list[str]:
        return list(connection.execute(_UNFINISHED).scalars())


_PAGES = select(journal.c.segments).order_by(journal.c.page)
_PAGES_WITH = _PAGES.where(journal.c.segments.contains(bindparam("turn_id")))
_LAST_SEQS = select(turns.c.id, cast(turns.c.last_seq, BigInteger).label("last_seq")).where(_RUNNING)
_LAST_SEQ_OF = _LAST_SEQS.where(turns.c.id == bindparam("turn_id"))
_STORED = select(blocks.c.turn_id, blocks.c.sequence).where(
    blocks.c.turn_id.in_(bindparam("turn_ids", expanding=True))
)


class Journal(Query[list[JournalSegment]], frozen=True, kw_only=True):
    """A turn's journal: the segments of its open blocks, in order. Of blocks that are stored or were taken back, and of a
    turn that has ended, there are none."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[JournalSegment]:
        found = _open_segments(connection, _LAST_SEQ_OF, _PAGES_WITH, {"turn_id": self.turn_id})
        return found.get(self.turn_id, [])


class Journals(Query[dict[str, list[JournalSegment]]], frozen=True, kw_only=True):
    """As `Journal`, of all turns: those that have no segments are not among them."""

    def fetch(self, connection: Connection) -> dict[str, list[JournalSegment]]:
        return _open_segments(connection, _LAST_SEQS, _PAGES, {})


def _open_segments(
    connection: Connection, running: Executable, pages: Executable, where: Mapping[str, str]
) -> dict[str, list[JournalSegment]]:
    last_seqs = {row.id: row.last_seq for row in connection.execute(running, where)}
    found = read_pages((row.segments for row in connection.execute(pages, where)), last_seqs)
    stored: set[tuple[str, int]] = set()
    for ids in _portions(list(found)):
        stored.update((row.turn_id, row.sequence) for row in connection.execute(_STORED, {"turn_ids": ids}))
    return {
        turn_id: [segment for segment in segments if (turn_id, segment.sequence) not in stored]
        for turn_id, segments in found.items()
    }


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
    """What a key began in a chat of the owner: request hash, user turn id, assistant turn id."""

    owner: str | None
    chat_id: str
    key: str

    def fetch(self, connection: Connection) -> tuple[str, str | None, str] | None:
        row = connection.execute(_IDEMPOTENT, {"chat_id": self.chat_id, "key": self.key}).first()
        if row is None or self.owner not in {None, row.owner}:
            return None
        return row.request_hash, row.user_turn_id, row.assistant_turn_id


# The casts make numbers of whatever a damaged row holds: recovery counts on them.
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
    """The greatest seq that is stored of a turn, wherever it is but in the journal; 0 when there is none."""

    turn_id: str

    def fetch(self, connection: Connection) -> int:
        return connection.execute(_LAST_SEQ, {"turn_id": self.turn_id}).scalar() or 0


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_SELECT):
        yield ids[start : start + _IDS_PER_SELECT]
