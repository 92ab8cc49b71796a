"""Adds the tools that a turn's model may call, to the turn's row and to the chat's settings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    for table in ("turnstream_turns", "turnstream_settings"):
        if "tools" not in {column["name"] for column in inspector.get_columns(table)}:
            op.add_column(table, sa.Column("tools", sa.Text))
