"""Adds the cost of a turn, and the usage of its steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TURNS = "turnstream_turns"


def upgrade() -> None:
    op.add_column(_TURNS, sa.Column("cost", sa.String(32)))
    op.add_column(_TURNS, sa.Column("cost_estimated", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column(_TURNS, sa.Column("steps", sa.Text))
