"""Adds the nodes that share a database, and the node that writes each turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_TURNS = "turnstream_turns"
_NODES = "turnstream_nodes"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    columns = {column["name"] for column in inspector.get_columns(_TURNS)}
    for name in ("node", "taken_from"):
        if name not in columns:
            op.add_column(_TURNS, sa.Column(name, sa.String(36)))
    if not inspector.has_table(_NODES):
        op.create_table(
            _NODES,
            sa.Column("id", sa.String(36), nullable=False),
            sa.Column("address", sa.Text, nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("lease", sa.BigInteger, nullable=False),
            sa.Column("joined_at", sa.BigInteger, nullable=False),
            sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
            sa.PrimaryKeyConstraint("id", name=f"pk_{_NODES}"),
        )
