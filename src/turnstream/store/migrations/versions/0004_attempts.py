"""Adds call attempts of turns, the requested model, the fallback models, and retractions of blocks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TURNS = "turnstream_turns"
_ATTEMPTS = "turnstream_attempts"


def upgrade() -> None:
    op.add_column(_TURNS, sa.Column("asked_model", sa.Text))
    op.add_column(_TURNS, sa.Column("fallbacks", sa.Text))
    op.add_column(_TURNS, sa.Column("resets", sa.Text))
    op.create_table(
        _ATTEMPTS,
        sa.Column("turn_id", sa.String(36), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("cost", sa.String(32)),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turnstream_turns.id"], name=f"fk_{_ATTEMPTS}_turn_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("turn_id", "step", "number", name=f"pk_{_ATTEMPTS}"),
    )
