"""Signals between nodes: the nodes that a node follows, and the turns that must stop."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, update

from turnstream.store.base import Operation, Query
from turnstream.store.database import driver_of
from turnstream.store.expressions import DatabaseTime
from turnstream.store.schema import followers, stop_requests

_NOW = select(DatabaseTime())
_RENEW = (
    update(followers)
    .where(followers.c.node == bindparam("at_node"), followers.c.follower == bindparam("by_node"))
    .values(until=bindparam("to_until"))
)
_DELETE_OLD = delete(followers).where(
    followers.c.node == bindparam("at_node"), followers.c.until < DatabaseTime()
)
_IS_FOLLOWED = select(func.count()).where(
    followers.c.node == bindparam("at_node"), followers.c.until >= DatabaseTime()
)
_STOPS = select(stop_requests.c.turn_id).where(stop_requests.c.node == bindparam("at_node"))
_MUST_STOP = select(func.count()).where(stop_requests.c.turn_id == bindparam("at_turn"))
_MOVE_STOP = (
    update(stop_requests)
    .where(stop_requests.c.turn_id == bindparam("at_turn"))
    .values(node=bindparam("to_node"))
)
_DELETE_STOPS = delete(stop_requests).where(stop_requests.c.turn_id.in_(bindparam("ids", expanding=True)))


class FollowNodes(Operation[None], frozen=True, kw_only=True):
    """Stores that a node shows turns of other nodes. Those nodes write their pages more often.

    Args:
        follower: The node that follows.
        nodes: The nodes that it follows.
        seconds: Seconds for which this holds.
    """

    follower: str
    nodes: tuple[str, ...]
    seconds: float

    def apply(self, connection: Connection) -> None:
        until = connection.execute(_NOW).scalar_one() + int(self.seconds * 1_000_000)
        for node in self.nodes:
            connection.execute(_DELETE_OLD, {"at_node": node})
            values = {"at_node": node, "by_node": self.follower, "to_until": until}
            if connection.execute(_RENEW, values).rowcount == 0:
                driver_of(connection).insert(connection, followers, [(node, self.follower, until)])


class RequestStop(Operation[None], frozen=True, kw_only=True):
    """Asks the node that writes a turn to stop it. An earlier request goes to this node, too.

    Asking the same node again changes nothing.
    """

    node: str

    def apply(self, connection: Connection) -> None:
        if driver_of(connection).insert(connection, stop_requests, [(self.turn_id, self.node)]) == 0:
            connection.execute(_MOVE_STOP, {"at_turn": self.turn_id, "to_node": self.node})


class ForgetStops(Operation[None], frozen=True, kw_only=True):
    """Deletes the requests to stop turns: they are stopped."""

    turn_ids: tuple[str, ...]

    def apply(self, connection: Connection) -> None:
        connection.execute(_DELETE_STOPS, {"ids": self.turn_ids})


class Signals(NamedTuple):
    """The signals to a node.

    Attributes:
        is_followed: True if another node shows turns of the node.
        stops: Ids of the turns that must stop.
    """

    is_followed: bool
    stops: tuple[str, ...]


class ReadSignals(Query[Signals], frozen=True, kw_only=True):
    """Reads the signals of other nodes to a node."""

    node: str

    def fetch(self, connection: Connection) -> Signals:
        where = {"at_node": self.node}
        count = connection.execute(_IS_FOLLOWED, where).scalar_one()
        return Signals(count > 0, tuple(connection.execute(_STOPS, where).scalars()))


class MustStop(Query[bool], frozen=True, kw_only=True):
    """Reads if a node was asked to stop a turn, and has not done it yet."""

    turn_id: str

    def fetch(self, connection: Connection) -> bool:
        return connection.execute(_MUST_STOP, {"at_turn": self.turn_id}).scalar_one() > 0
