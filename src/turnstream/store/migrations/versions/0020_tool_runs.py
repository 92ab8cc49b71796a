"""Adds the ledger of tool calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_TOOL_RUNS = "turnstream_tool_runs"


def upgrade() -> None:
    op.create_table(
        _TOOL_RUNS,
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.String(36), nullable=False),
        sa.Column("tool_use_id", sa.Text, nullable=False),
        sa.Column("tool_name", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("is_error", sa.Boolean),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turnstream_turns.id"], name=f"fk_{_TOOL_RUNS}_turn_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("turn_id", "first_seq", name=f"pk_{_TOOL_RUNS}"),
        if_not_exists=True,
    )
