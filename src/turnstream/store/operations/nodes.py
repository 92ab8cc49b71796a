"""Writes of the nodes that share the database: heartbeats, and claims of the turns of lapsed nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select, update

from turnstream.core.cursor import next_generation_seq
from turnstream.errors import Fenced
from turnstream.store.base import NodeRecord, NodeState, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.expressions import DatabaseTime
from turnstream.store.journal.pages import LOCAL_NODE
from turnstream.store.nodes import IS_LAPSED, IS_WRITTEN
from turnstream.store.operations.fencing import require_executor
from turnstream.store.operations.progress import SaveStep, fences_before
from turnstream.store.rows import node_rows, turn_rows
from turnstream.store.schema import followers, journal, nodes, turns
from turnstream.store.settings import read_turns

_NOW = select(DatabaseTime())
_BEAT = (
    update(nodes)
    .where(nodes.c.id == bindparam("at_id"))
    .values(heartbeat_at=DatabaseTime(), state=bindparam("to_state"))
    .returning(nodes.c.heartbeat_at)
)
_DRAIN = update(nodes).where(nodes.c.id == bindparam("at_id")).values(state="draining")
_LAPSED = select(nodes.c.id).where(IS_LAPSED).order_by(nodes.c.id).with_for_update()
_HAS_NO_NODE = or_(turns.c.node.is_(None), ~exists().where(nodes.c.id == turns.c.node))
_LAPSED_SINCE = nodes.c.heartbeat_at < DatabaseTime() - bindparam("age")
_REMOVABLE = select(nodes.c.id).where(
    IS_LAPSED,
    _LAPSED_SINCE,
    ~exists().where(or_(turns.c.node == nodes.c.id, turns.c.taken_from == nodes.c.id), IS_WRITTEN),
)
_DELETE_PAGES = delete(journal).where(journal.c.owner.in_(bindparam("ids", expanding=True)))
_DELETE_FOLLOWERS = delete(followers).where(
    or_(
        followers.c.node.in_(bindparam("ids", expanding=True)),
        followers.c.follower.in_(bindparam("ids", expanding=True)),
    )
)
_DELETE_NODES = delete(nodes).where(nodes.c.id.in_(bindparam("ids", expanding=True)))


_CLAIM = (
    update(turns)
    .where(IS_WRITTEN)
    .values(
        generation=turns.c.generation + 1,
        node=bindparam("by_node"),
        taken_from=func.coalesce(turns.c.taken_from, turns.c.node, LOCAL_NODE),
    )
)
_CLAIM_LAPSED = _CLAIM.where(or_(turns.c.node.in_(bindparam("lapsed", expanding=True)), _HAS_NO_NODE))
_CLAIM_RELEASED = _CLAIM.where(turns.c.node.is_(None), turns.c.taken_from.is_not(None))
_CLAIM_ONE = _CLAIM.where(turns.c.id == bindparam("at_id"), turns.c.generation == bindparam("at_generation"))
_RESUME = (
    update(turns)
    .where(turns.c.id == bindparam("at_id"), turns.c.generation == bindparam("at_generation"))
    .where(turns.c.node == bindparam("by_node"), IS_WRITTEN)
)
_TURN = select(turns).where(turns.c.id == bindparam("turn_id"))
_FENCES = select(turns.c.fences).where(turns.c.id == bindparam("turn_id"))
_OWN = select(turns.c.id, turns.c.generation).where(IS_WRITTEN, turns.c.node == bindparam("of_node"))
_CLAIMED = (
    select(turns.c.id, turns.c.generation, turns.c.taken_from)
    .where(IS_WRITTEN, turns.c.node == bindparam("by_node"), turns.c.taken_from.is_not(None))
    .order_by(turns.c.created_at, turns.c.id)
)


class ReadOwnTurns(Operation[dict[str, int]], frozen=True, kw_only=True):
    """Reads the generations of the turns that a node writes, by turn id.

    It does not wait for other writes or reads.
    """

    renews_lease: ClassVar[bool] = True
    node: str

    def apply(self, connection: Connection) -> dict[str, int]:
        return {row.id: row.generation for row in connection.execute(_OWN, {"of_node": self.node})}


class Heartbeat(Operation[int], frozen=True, kw_only=True):
    """Stores that a node is alive. Returns the database's time, in microseconds since the epoch.

    It adds the node's row if there is none: at the start, or after another node has removed the row.

    Args:
        lease: Microseconds in which no other node may claim the node's turns.
    """

    renews_lease: ClassVar[bool] = True
    id: str
    address: str
    lease: int
    state: NodeState = "running"

    def apply(self, connection: Connection) -> int:
        values = {"at_id": self.id, "to_state": self.state}
        beat = connection.execute(_BEAT, values).scalar()
        if beat is not None:
            return beat
        now: int = connection.execute(_NOW).scalar_one()
        node = NodeRecord(
            id=self.id,
            address=self.address,
            state=self.state,
            lease=self.lease,
            joined_at=now,
            heartbeat_at=now,
        )
        driver_of(connection).insert(connection, nodes, [node_rows.row(node)])
        return now


class ClaimedTurn(NamedTuple):
    """A turn that a node has claimed.

    Attributes:
        generation: Its new generation.
        taken_from: Id of the node whose journal has its open block.
    """

    id: str
    generation: int
    taken_from: str


class ClaimTurns(Operation[list[ClaimedTurn]], frozen=True, kw_only=True):
    """Gives a node all unfinished turns of lapsed nodes, and those without a node.

    Returns the turns that this node has claimed, now or before, and has not recovered yet.

    Each gets a new generation, so writes of its last executor are refused from now on. A heartbeat of a
    lapsed node waits for this write, or comes first and keeps the node's turns.

    Args:
        node: The node that claims.
        not_before, not_after: The database's time must be between them, in microseconds since the epoch.
            Otherwise the database's clock was changed, leases cannot be compared, and nothing is claimed.
    """

    node: str
    not_before: int
    not_after: int

    def apply(self, connection: Connection) -> list[ClaimedTurn]:
        lapsed = [each for each in connection.execute(_LAPSED).scalars() if each != self.node]
        now: int = connection.execute(_NOW).scalar_one()
        if not self.not_before <= now <= self.not_after:
            return []
        connection.execute(_CLAIM_LAPSED, {"by_node": self.node, "lapsed": lapsed})
        rows = connection.execute(_CLAIMED, {"by_node": self.node})
        return [ClaimedTurn(*row) for row in rows]


class ClaimReleased(Operation[list[ClaimedTurn]], frozen=True, kw_only=True):
    """Gives a node all turns that draining nodes have released. The node's lease may be new.

    Returns the same turns as `ClaimTurns`.
    """

    node: str

    def apply(self, connection: Connection) -> list[ClaimedTurn]:
        connection.execute(_CLAIM_RELEASED, {"by_node": self.node})
        rows = connection.execute(_CLAIMED, {"by_node": self.node})
        return [ClaimedTurn(*row) for row in rows]


class ClaimTurn(Operation[ClaimedTurn], frozen=True, kw_only=True):
    """Gives a node one unfinished turn, whatever the lease of the turn's node. Raises Fenced.

    Args:
        node: The node that claims.
        generation: The generation that the turn must have.
    """

    node: str
    generation: int

    def apply(self, connection: Connection) -> ClaimedTurn:
        values = {"by_node": self.node, "at_id": self.turn_id, "at_generation": self.generation}
        connection.execute(_CLAIM_ONE, values)
        for row in connection.execute(_CLAIMED, {"by_node": self.node}):
            if row.id == self.turn_id and row.generation == self.generation + 1:
                return ClaimedTurn(*row)
        require_executor(connection, self.turn_id, self.generation)
        raise Fenced("the turn has no executor")


class BeginDrain(Operation[None], frozen=True, kw_only=True):
    """Stores that a node is draining: a node that claims its turns sees that they were not lost."""

    renews_lease: ClassVar[bool] = True
    node: str

    def apply(self, connection: Connection) -> None:
        connection.execute(_DRAIN, {"at_id": self.node})


class ReleaseTurn(Operation[None], frozen=True, kw_only=True):
    """Takes a turn from its node, so that another one may claim it at once. Does nothing if it has ended."""

    node: str
    generation: int

    def apply(self, connection: Connection) -> None:
        where = {"at_id": self.turn_id, "at_generation": self.generation, "by_node": self.node}
        taken_from = func.coalesce(turns.c.taken_from, turns.c.node)
        connection.execute(_RESUME.values(node=None, taken_from=taken_from), where)


class ResumeClaimed(Operation[TurnRecord], frozen=True, kw_only=True):
    """Marks a claimed turn as recovered: its new executor continues it. Returns its row. Raises Fenced.

    Args:
        node: The node that has claimed the turn.
        generation: The generation that the claim gave to the turn.
        fence_seq: The last seq of the lost generations that survived.
        account: The attempts of the turn, with a model call that was lost. None: there was none.
    """

    node: str
    generation: int
    fence_seq: int
    account: SaveStep | None = None

    def values(self, fences: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Return the columns that it changes. `fences`: the turn's fences before."""
        return {
            "taken_from": None,
            "fences": fences_before(self.turn_id, fences, self.generation, self.fence_seq),
            "last_seq": next_generation_seq(self.fence_seq),
        }

    def apply(self, connection: Connection) -> TurnRecord:
        require_executor(connection, self.turn_id, self.generation)
        stored = connection.execute(_FENCES, {"turn_id": self.turn_id}).scalar()
        values = self.values(turn_rows.read("fences", stored, self.turn_id))
        where = {"at_id": self.turn_id, "at_generation": self.generation, "by_node": self.node}
        if connection.execute(_RESUME.values(values), where).rowcount == 0:
            raise Fenced("another node has claimed the turn")
        if self.account is not None:
            self.account.apply(connection)
        (turn,) = read_turns(connection, [connection.execute(_TURN, {"turn_id": self.turn_id}).one()])
        return turn


class RemoveNodes(Operation[list[str]], frozen=True, kw_only=True):
    """Removes lapsed nodes that have no unfinished turn. Returns their ids.

    Their pages of the journal go with them, and the rows of their followers.

    Args:
        age: Microseconds since the last heartbeat of a node that may be removed.
    """

    age: int

    def apply(self, connection: Connection) -> list[str]:
        ids = list(connection.execute(_REMOVABLE.with_for_update(), {"age": self.age}).scalars())
        if ids:
            connection.execute(_DELETE_PAGES, {"ids": ids})
            connection.execute(_DELETE_FOLLOWERS, {"ids": ids})
            connection.execute(_DELETE_NODES, {"ids": ids})
        return ids
