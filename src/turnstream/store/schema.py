"""The tables. `migrations/` creates them, and a test compares the two.

    chats ──< turns ──< blocks          closed blocks of a turn, each with its first and last seq
      │         ├─────< annotations     durable events that do not belong to a block
      │         ├─────< attempts        calls of models that were tried
      │         └─────< tool_runs       tool calls that have begun (`ledger/`)
      ├───────────────< settings        system prompts, params, tools of its turns, each once (`settings.py`)
      ├───────────────< idempotency     keys of requests that began turns
      ├───────────────< client_chats    ids that clients gave to the chat
      ├───────────────< client_turns    ids that clients gave to messages and runs
      └───────────────< agent_conversations, agent_messages     integers of the staged agent's clients
    followers                           nodes that show the turns of other nodes
    stop_requests                       turns that another node wants to stop
    journal                             pages with the growth of the open blocks of all turns (`journal/`)
    nodes                               processes that share the database, and their heartbeats (`nodes.py`)

Rows below a chat are deleted with it (ON DELETE CASCADE). Readers do not find a chat that has a `deleted_at`.
Its rows are deleted in portions. Times are microseconds since the epoch, ids are UUIDv7 text. The columns of
chats, turns and attempts are the fields of their records (`store.mapping`). The store alone uses two more
columns of turns: the digest of their settings, and the digest of the conversation up to the turn
(`store.conversation_digest`), which is NULL while the turn runs and in rows of earlier versions. The
migrations order the columns of `turns`: those that every write reads (status, generation) come before the
long ones, so that such a read needs one page.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    text,
)

from turnstream.limits import CLIENT_ID_LENGTH
from turnstream.store.columns import JsonText, StoredText
from turnstream.store.conversation_digest import DIGEST_LENGTH
from turnstream.store.rows import approval_rows, attempt_rows, chat_rows, node_rows, turn_rows

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
_DIGESTED = text("path_digest IS NOT NULL")
_UNANSWERED = text("approved IS NULL")
AWAITS_HOOK = text("awaits_hook IS NOT NULL")
"""Condition of the turns whose end the host application's hook has not seen. An index has them."""
ANSWERS = text("role <> 'user'")
"""Condition of the turns that models or sources write. An index has them, for statistics."""
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
    *chat_rows.columns(),
    Column("deleted_at", BigInteger),
    PrimaryKeyConstraint("id"),
    Index(None, "owner", "updated_at", "id"),
    Index(f"ix_{PREFIX}chats_deleted", "deleted_at", sqlite_where=_DELETED, postgresql_where=_DELETED),
)

turns = Table(
    f"{PREFIX}turns",
    metadata,
    *turn_rows.columns(),
    Column("settings", String(64)),
    Column("path_digest", String(DIGEST_LENGTH)),
    ForeignKeyConstraint(["chat_id"], [f"{PREFIX}chats.id"], ondelete="CASCADE"),
    PrimaryKeyConstraint("id"),
    Index(None, "chat_id", "created_at"),
    Index(None, "prev_turn_id"),
    Index(
        f"ix_{PREFIX}turns_answers",
        "owner",
        "created_at",
        "id",
        sqlite_where=ANSWERS,
        postgresql_where=ANSWERS,
    ),
    Index(f"ix_{PREFIX}turns_awaits_hook", "id", sqlite_where=AWAITS_HOOK, postgresql_where=AWAITS_HOOK),
    Index(f"ix_{PREFIX}turns_unfinished", "status", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
    Index(
        f"ix_{PREFIX}turns_path",
        "owner",
        "path_digest",
        "chat_id",
        sqlite_where=_DIGESTED,
        postgresql_where=_DIGESTED,
    ),
)

settings = Table(
    f"{PREFIX}settings",
    metadata,
    _child_of("chats", "chat_id"),
    Column("digest", String(64), nullable=False),
    Column("params", JsonText, nullable=False),
    Column("system", StoredText),
    Column("tools", JsonText),
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
    Column("owner", String(64), nullable=False),
    Column("page", BigInteger, nullable=False),
    Column("segments", StoredText, nullable=False),
    PrimaryKeyConstraint("owner", "page"),
)

nodes = Table(
    f"{PREFIX}nodes",
    metadata,
    *node_rows.columns(),
    PrimaryKeyConstraint("id"),
)

followers = Table(
    f"{PREFIX}followers",
    metadata,
    _id_column("node"),
    _id_column("follower"),
    Column("until", BigInteger, nullable=False),
    PrimaryKeyConstraint("node", "follower"),
)

stop_requests = Table(
    f"{PREFIX}stop_requests",
    metadata,
    _child_of("turns", "turn_id"),
    _id_column("node"),
    PrimaryKeyConstraint("turn_id"),
    Index(None, "node"),
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
    *attempt_rows.columns(),
    PrimaryKeyConstraint("turn_id", "step", "number"),
)

approvals = Table(
    f"{PREFIX}approvals",
    metadata,
    *approval_rows.columns(),
    ForeignKeyConstraint(["turn_id"], [f"{PREFIX}turns.id"], ondelete="CASCADE"),
    PrimaryKeyConstraint("id"),
    Index(None, "turn_id"),
    Index(
        f"ix_{PREFIX}approvals_unanswered",
        "expires_at",
        sqlite_where=_UNANSWERED,
        postgresql_where=_UNANSWERED,
    ),
)

tool_runs = Table(
    f"{PREFIX}tool_runs",
    metadata,
    _child_of("turns", "turn_id"),
    Column("first_seq", BigInteger, nullable=False),
    Column("attempt", String(_ID_LENGTH), nullable=False),
    Column("tool_use_id", StoredText, nullable=False),
    Column("tool_name", StoredText, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Column("output", StoredText),
    Column("is_error", Boolean),
    PrimaryKeyConstraint("turn_id", "first_seq"),
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

client_chats = Table(
    f"{PREFIX}client_chats",
    metadata,
    Column("owner", StoredText, nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    _child_of("chats", "chat_id"),
    PrimaryKeyConstraint("owner", "client_id"),
    Index(None, "chat_id"),
)

client_turns = Table(
    f"{PREFIX}client_turns",
    metadata,
    _child_of("chats", "chat_id"),
    Column("kind", String(16), nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("owner", StoredText, nullable=False),
    _id_column("turn_id"),
    PrimaryKeyConstraint("chat_id", "kind", "client_id"),
    Index(None, "owner", "client_id"),
)

secrets = Table(
    f"{PREFIX}secrets",
    metadata,
    Column("name", String(64), nullable=False),
    Column("value", String(255), nullable=False),
    PrimaryKeyConstraint("name"),
)

agent_conversations = Table(
    f"{PREFIX}agent_conversations",
    metadata,
    Column("number", Integer, primary_key=True),
    _child_of("chats", "chat_id"),
    Column("page_name", StoredText, nullable=False),
    Column("user_id", StoredText),
    Column("status", String(16), nullable=False),
    Index(f"ix_{PREFIX}agent_conversations_chat_id", "chat_id", unique=True),
    sqlite_autoincrement=True,
)

agent_messages = Table(
    f"{PREFIX}agent_messages",
    metadata,
    Column("number", Integer, primary_key=True),
    _child_of("chats", "chat_id"),
    Column("turn_id", String(_ID_LENGTH)),
    Column("parent", Integer),
    Column("written", JsonText),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Index(None, "chat_id"),
    Index(f"ix_{PREFIX}agent_messages_turn_id", "turn_id", unique=True),
    sqlite_autoincrement=True,
)
