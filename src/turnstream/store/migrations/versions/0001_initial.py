"""Creates the tables of chats, turns, blocks, the journal, annotations and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_PREFIX = "turnstream_"
_UNFINISHED = sa.text("status IN ('pending', 'streaming', 'waiting')")


def upgrade() -> None:
    _create_chats()
    _create_turns()
    _create_blocks()
    _create_journal()
    _create_annotations()
    _create_idempotency()


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(36), nullable=False)


def _parent(table: str, parent: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"{_PREFIX}{parent}.id"],
        name=f"fk_{_PREFIX}{table}_{column}",
        ondelete="CASCADE",
    )


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{_PREFIX}{table}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{_PREFIX}{table}_{'_'.join(columns)}", f"{_PREFIX}{table}", list(columns))


def _create_chats() -> None:
    op.create_table(
        f"{_PREFIX}chats",
        _id("id"),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        _key("chats", "id"),
    )
    _index("chats", "owner", "updated_at", "id")


def _create_turns() -> None:
    op.create_table(
        f"{_PREFIX}turns",
        _id("id"),
        _id("chat_id"),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("prev_turn_id", sa.String(36)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("model", sa.Text),
        sa.Column("stop_reason", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("fences", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("system", sa.Text),
        _key("turns", "id"),
        _parent("turns", "chats", "chat_id"),
    )
    _index("turns", "chat_id", "created_at")
    _index("turns", "prev_turn_id")
    op.create_index(
        f"ix_{_PREFIX}turns_unfinished",
        f"{_PREFIX}turns",
        ["status"],
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )


def _create_blocks() -> None:
    op.create_table(
        f"{_PREFIX}blocks",
        _id("turn_id"),
        sa.Column("sequence", sa.Integer, nullable=False),
        _id("id"),
        sa.Column("block_type", sa.String(32), nullable=False),
        sa.Column("text_content", sa.Text),
        sa.Column("content", sa.Text),
        sa.Column("partial", sa.Boolean, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        _key("blocks", "turn_id", "sequence"),
        _parent("blocks", "turns", "turn_id"),
    )


def _create_journal() -> None:
    op.create_table(
        f"{_PREFIX}journal",
        _id("turn_id"),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("block_type", sa.String(32), nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        _key("journal", "turn_id", "sequence", "number"),
        _parent("journal", "turns", "turn_id"),
    )


def _create_annotations() -> None:
    op.create_table(
        f"{_PREFIX}annotations",
        _id("turn_id"),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        _key("annotations", "turn_id", "seq"),
        _parent("annotations", "turns", "turn_id"),
    )


def _create_idempotency() -> None:
    op.create_table(
        f"{_PREFIX}idempotency",
        _id("chat_id"),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("user_turn_id", sa.String(36)),
        _id("assistant_turn_id"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        _key("idempotency", "chat_id", "key"),
        _parent("idempotency", "chats", "chat_id"),
    )
