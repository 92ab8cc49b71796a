"""Adds digests of the conversation up to each turn, marks of imported turns, and the ids that clients use.

Existing turns have no digest, and are not found by it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TURNS = "turnstream_turns"
_CLIENT_CHATS = "turnstream_client_chats"
_CLIENT_TURNS = "turnstream_client_turns"
_DIGESTED = sa.text("path_digest IS NOT NULL")


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(_TURNS)}
    if "path_digest" not in columns:
        op.add_column(_TURNS, sa.Column("path_digest", sa.String(32)))
    if "imported" not in columns:
        op.add_column(_TURNS, sa.Column("imported", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index(
        f"ix_{_TURNS}_path",
        _TURNS,
        ["owner", "path_digest", "chat_id"],
        sqlite_where=_DIGESTED,
        postgresql_where=_DIGESTED,
        if_not_exists=True,
    )
    op.create_table(
        _CLIENT_CHATS,
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("client_id", sa.String(255), nullable=False),
        sa.Column("chat_id", sa.String(36), nullable=False),
        _chat_key(_CLIENT_CHATS),
        sa.PrimaryKeyConstraint("owner", "client_id", name=f"pk_{_CLIENT_CHATS}"),
        if_not_exists=True,
    )
    op.create_index(f"ix_{_CLIENT_CHATS}_chat_id", _CLIENT_CHATS, ["chat_id"], if_not_exists=True)
    op.create_table(
        _CLIENT_TURNS,
        sa.Column("chat_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("client_id", sa.String(255), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("turn_id", sa.String(36), nullable=False),
        _chat_key(_CLIENT_TURNS),
        sa.PrimaryKeyConstraint("chat_id", "kind", "client_id", name=f"pk_{_CLIENT_TURNS}"),
        if_not_exists=True,
    )
    op.create_index(
        f"ix_{_CLIENT_TURNS}_owner_client_id", _CLIENT_TURNS, ["owner", "client_id"], if_not_exists=True
    )


def _chat_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["chat_id"], ["turnstream_chats.id"], name=f"fk_{table}_chat_id", ondelete="CASCADE"
    )
