"""Adds the integers by which clients of the staged agent know conversations and messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_CONVERSATIONS = "turnstream_agent_conversations"
_MESSAGES = "turnstream_agent_messages"


def upgrade() -> None:
    op.create_table(
        _CONVERSATIONS,
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("chat_id", sa.String(36), nullable=False),
        sa.Column("page_name", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.ForeignKeyConstraint(
            ["chat_id"], ["turnstream_chats.id"], name=f"fk_{_CONVERSATIONS}_chat_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        f"ix_{_CONVERSATIONS}_chat_id", _CONVERSATIONS, ["chat_id"], unique=True, if_not_exists=True
    )
    op.create_table(
        _MESSAGES,
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("chat_id", sa.String(36), nullable=False),
        sa.Column("turn_id", sa.String(36)),
        sa.Column("parent", sa.Integer),
        sa.Column("written", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
        sa.ForeignKeyConstraint(
            ["chat_id"], ["turnstream_chats.id"], name=f"fk_{_MESSAGES}_chat_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(f"ix_{_MESSAGES}_chat_id", _MESSAGES, ["chat_id"], if_not_exists=True)
    op.create_index(f"ix_{_MESSAGES}_turn_id", _MESSAGES, ["turn_id"], unique=True, if_not_exists=True)
