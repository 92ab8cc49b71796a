"""Adds the mark of deleted chats, whose rows are deleted later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_CHATS = "turnstream_chats"
_DELETED = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "deleted_at" not in {column["name"] for column in inspector.get_columns(_CHATS)}:
        op.add_column(_CHATS, sa.Column("deleted_at", sa.BigInteger))
    op.create_index(
        f"ix_{_CHATS}_deleted",
        _CHATS,
        ["deleted_at"],
        if_not_exists=True,
        sqlite_where=_DELETED,
        postgresql_where=_DELETED,
    )
