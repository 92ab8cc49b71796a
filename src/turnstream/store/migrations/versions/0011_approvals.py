"""Adds approvals of tool calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_APPROVALS = "turnstream_approvals"
_UNANSWERED = sa.text("approved IS NULL")


def upgrade() -> None:
    op.create_table(
        _APPROVALS,
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("tool_use_id", sa.Text, nullable=False),
        sa.Column("tool_name", sa.Text, nullable=False),
        sa.Column("input_digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("approved", sa.Boolean),
        sa.Column("reason", sa.Text),
        sa.Column("decided_at", sa.BigInteger),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turnstream_turns.id"], name=f"fk_{_APPROVALS}_turn_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{_APPROVALS}"),
    )
    op.create_index(f"ix_{_APPROVALS}_turn_id", _APPROVALS, ["turn_id"])
    op.create_index(
        f"ix_{_APPROVALS}_unanswered",
        _APPROVALS,
        ["expires_at"],
        sqlite_where=_UNANSWERED,
        postgresql_where=_UNANSWERED,
    )
