"""Adds what nodes tell each other: the owners that they follow, and the turns that must stop."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_FOLLOWERS = "turnstream_followers"
_STOPS = "turnstream_stop_requests"


def upgrade() -> None:
    op.create_table(
        _FOLLOWERS,
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("follower", sa.String(36), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("node", "follower", name=f"pk_{_FOLLOWERS}"),
        if_not_exists=True,
    )
    op.create_table(
        _STOPS,
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("node", sa.String(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turnstream_turns.id"], ondelete="CASCADE", name=f"fk_{_STOPS}_turn_id"
        ),
        sa.PrimaryKeyConstraint("turn_id", name=f"pk_{_STOPS}"),
        if_not_exists=True,
    )
    op.create_index(f"ix_{_STOPS}_node", _STOPS, ["node"], if_not_exists=True)
