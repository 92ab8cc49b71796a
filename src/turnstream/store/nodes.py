"""Reads of the nodes that share the database."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select

from turnstream.store.base import NodeRecord, Query
from turnstream.store.expressions import DatabaseTime
from turnstream.store.queries import RUNNING
from turnstream.store.rows import node_rows
from turnstream.store.schema import annotations, nodes, turns

IS_LAPSED: ColumnElement[bool] = or_(
    nodes.c.state == "ended", nodes.c.heartbeat_at + nodes.c.lease < DatabaseTime()
)
"""Condition of the nodes whose turns may be claimed: the node has ended, or its lease has lapsed."""
_NODES = select(nodes, IS_LAPSED.label("is_lapsed"), DatabaseTime().label("now")).order_by(nodes.c.id)


IS_WRITTEN = and_(RUNNING, turns.c.status != "waiting", turns.c.role != "user")
"""Condition of the turns that a task writes."""


RECOVERED = "recovered"
"""Code of the notice that another node continues a turn, after the turn's node was lost."""
_RECOVERIES = (
    select(func.count())
    .select_from(annotations)
    .where(
        annotations.c.turn_id == bindparam("of_turn"), annotations.c.event.contains(f'"code":"{RECOVERED}"')
    )
)


class SeenNode(NamedTuple):
    """A node as the database shows it.

    Attributes:
        is_lapsed: True if its turns may be claimed.
        now: The database's time, in microseconds since the epoch.
    """

    record: NodeRecord
    is_lapsed: bool
    now: int


class ListNodes(Query[list[SeenNode]], frozen=True, kw_only=True):
    """Reads all nodes that have joined and were not removed, in the order of their starts."""

    def fetch(self, connection: Connection) -> list[SeenNode]:
        return [
            SeenNode(node_rows.record(row[:-2]), bool(row.is_lapsed), row.now)
            for row in connection.execute(_NODES)
        ]


class CountRecoveries(Query[int], frozen=True, kw_only=True):
    """Counts the notices of a turn that say that another node continues it."""

    turn_id: str

    def fetch(self, connection: Connection) -> int:
        return connection.execute(_RECOVERIES, {"of_turn": self.turn_id}).scalar_one()
