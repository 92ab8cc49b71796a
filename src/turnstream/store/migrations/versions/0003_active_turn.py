"""Adds the turn whose branch a chat shows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("turnstream_chats", sa.Column("active_turn_id", sa.String(36)))
