"""The tables. `migrations/` makes them; a test holds the two together.

    chats ──< turns ──< blocks          closed pieces of a turn, each with the seqs of the log that it spans
                   ├──< annotations     lasting events that belong to no block
                   └──< attempts        the model calls that were tried
    chats ──< settings                  system prompts and params of its turns, each once (`settings.py`)
    chats ──< idempotency               keys of requests that began turns
    journal                             what the open blocks of all turns have grown by, a page for each stretch (`pages.py`)

Everything below a chat goes with it (ON DELETE CASCADE). A chat with a `deleted_at` is gone for every reader: its rows are
deleted in portions. Times are microseconds since the epoch, ids UUIDv7 text.
`turns` keeps what every write looks at (status, generation) before its long columns, so that a look reads one page.
Its `cost` is a decimal number as text, in US dollars with six places: no floating point comes near it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    false,
    text,
)

from turnstream.store.columns import JsonText, StoredText

PREFIX = "turnstream_"
VERSION_TABLE = f"{PREFIX}alembic_version"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID_LENGTH = 36
_DELETED = text("deleted_at IS NOT NULL")
_UNFINISHED = text("status IN ('pending', 'streaming', 'waiting')")


def _id_column(name: str) -> Column[str]:
    return Column(name, String(_ID_LENGTH), nullable=False)


def _child_of(table: str, name: str) -> Column[str]:
    return Column(
        name, String(_ID_LENGTH), ForeignKey(f"{PREFIX}{table}.id", ondelete="CASCADE"), nullable=False
    )


chats = Table(
    f"{PREFIX}chats",
    metadata,
    _id_column("id"),
    Column("owner", StoredText, nullable=False),
    Column("title", StoredText),
    Column("metadata", JsonText, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("active_turn_id", String(_ID_LENGTH)),
    Column("deleted_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index(None, "owner", "updated_at", "id"),
    Index(f"ix_{PREFIX}chats_deleted", "deleted_at", sqlite_where=_DELETED, postgresql_where=_DELETED),
)

turns = Table(
    f"{PREFIX}turns",
    metadata,
    _id_column("id"),
    _child_of("chats", "chat_id"),
    Column("owner", StoredText, nullable=False),
    Column("prev_turn_id", String(_ID_LENGTH)),
    Column("role", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("model", StoredText),
    Column("stop_reason", StoredText),
    Column("error_code", StoredText),
    Column("error_message", StoredText),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("fences", JsonText, nullable=False),
    Column("params", JsonText, nullable=False),
    Column("metadata", JsonText, nullable=False),
    Column("system", StoredText),
    Column("cost", String(32)),
    Column("cost_estimated", Boolean, nullable=False, server_default=false()),
    Column("steps", JsonText),
    Column("asked_model", StoredText),
    Column("fallbacks", JsonText),
    Column("resets", JsonText),
    Column("settings", String(64)),
    PrimaryKeyConstraint("id"),
    Index(None, "chat_id", "created_at"),
    Index(None, "prev_turn_id"),
    Index(f"ix_{PREFIX}turns_unfinished", "status", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
)

settings = Table(
    f"{PREFIX}settings",
    metadata,
    _child_of("chats", "chat_id"),
    Column("digest", String(64), nullable=False),
    Column("params", JsonText, nullable=False),
    Column("system", StoredText),
    PrimaryKeyConstraint("chat_id", "digest"),
)

blocks = Table(
    f"{PREFIX}blocks",
    metadata,
    _child_of("turns", "turn_id"),
    Column("sequence", Integer, nullable=False),
    _id_column("id"),
    Column("block_type", String(32), nullable=False),
    Column("text_content", StoredText),
    Column("content", JsonText),
    Column("partial", Boolean, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("turn_id", "sequence"),
)

journal = Table(
    f"{PREFIX}journal",
    metadata,
    Column("page", Integer, nullable=False),
    Column("segments", StoredText, nullable=False),
    PrimaryKeyConstraint("page"),
)

annotations = Table(
    f"{PREFIX}annotations",
    metadata,
    _child_of("turns", "turn_id"),
    Column("seq", BigInteger, nullable=False),
    Column("event", StoredText, nullable=False),
    PrimaryKeyConstraint("turn_id", "seq"),
)

attempts = Table(
    f"{PREFIX}attempts",
    metadata,
    _child_of("turns", "turn_id"),
    Column("step", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("model", StoredText, nullable=False),
    Column("outcome", StoredText, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration", Float, nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost", String(32)),
    Column("estimated", Boolean, nullable=False),
    PrimaryKeyConstraint("turn_id", "step", "number"),
)

idempotency = Table(
    f"{PREFIX}idempotency",
    metadata,
    _child_of("chats", "chat_id"),
    Column("key", String(255), nullable=False),
    Column("request_hash", StoredText, nullable=False),
    Column("user_turn_id", String(_ID_LENGTH)),
    Column("assistant_turn_id", String(_ID_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("chat_id", "key"),
)
