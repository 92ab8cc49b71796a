"""Adds a table that holds each pair of system prompt and params once per chat. Existing rows keep theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TURNS = "turnstream_turns"
_SETTINGS = "turnstream_settings"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "settings" not in {column["name"] for column in inspector.get_columns(_TURNS)}:
        op.add_column(_TURNS, sa.Column("settings", sa.String(64)))
    op.create_table(
        _SETTINGS,
        sa.Column("chat_id", sa.String(36), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("system", sa.Text),
        sa.ForeignKeyConstraint(
            ["chat_id"], ["turnstream_chats.id"], name=f"fk_{_SETTINGS}_chat_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("chat_id", "digest", name=f"pk_{_SETTINGS}"),
        if_not_exists=True,
    )
