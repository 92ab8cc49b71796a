"""The write that begins turns."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.errors import Conflict, NotFound
from turnstream.store.base import BlockRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.chats import require_chat, touch_chat
from turnstream.store.rows import block_row
from turnstream.store.schema import blocks, idempotency, turns
from turnstream.store.settings import read_turns, store_settings

_USE_OF_KEY = select(idempotency).where(
    idempotency.c.chat_id == bindparam("chat_id"), idempotency.c.key == bindparam("key")
)
_PREVIOUS = select(turns.c.role, turns.c.status).where(
    turns.c.id == bindparam("turn_id"),
    turns.c.chat_id == bindparam("chat_id"),
    turns.c.owner == bindparam("owner"),
)
_TURN = select(turns).where(turns.c.id == bindparam("turn_id"))
_INSERT_KEY = insert(idempotency)


class StartedRecords(msgspec.Struct, frozen=True):
    """`replayed`: the idempotency key was known; these are the turns of its first use, as they are now."""

    user_turn: TurnRecord | None
    assistant_turn: TurnRecord
    replayed: bool


class StartTurns(Operation[StartedRecords], frozen=True, kw_only=True):
    """Store a user's turn with its blocks, and the pending turn that answers it in one transaction.

    `user_turn` may be None: the assistant turn then follows its own `prev_turn_id`, which may be a user turn too.
    Raises NotFound when the chat, or the turn before, is not the owner's; Conflict `turn_active` when the turn before
    is still running, `invalid_prev_turn` when a user turn would follow a user turn, and `idempotency_mismatch` when
    the key began other turns in this chat.
    """

    owner: str
    user_turn: TurnRecord | None
    assistant_turn: TurnRecord
    user_blocks: tuple[BlockRecord, ...] = ()
    idempotency_key: str | None = None
    request_hash: str | None = None

    def apply(self, connection: Connection) -> StartedRecords:
        if self.idempotency_key is not None:
            require_chat(connection, self.owner, self.assistant_turn.chat_id)
            used = self._use_of_key(connection)
            if used is not None:
                return self._replay(connection, used)
        self._check_previous(connection)
        touch_chat(connection, self.owner, self.assistant_turn)
        self._insert(connection)
        return StartedRecords(self.user_turn, self.assistant_turn, replayed=False)

    def _use_of_key(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(
            _USE_OF_KEY, {"chat_id": self.assistant_turn.chat_id, "key": self.idempotency_key}
        ).first()

    def _replay(self, connection: Connection, used: Row[Any]) -> StartedRecords:
        if used.request_hash != (self.request_hash or ""):
            raise Conflict(
                "this idempotency key was used for another request in this chat", code="idempotency_mismatch"
            )
        user_turn = None if used.user_turn_id is None else _turn(connection, used.user_turn_id)
        return StartedRecords(user_turn, _turn(connection, used.assistant_turn_id), replayed=True)

    def _check_previous(self, connection: Connection) -> None:
        first = self.user_turn or self.assistant_turn
        if first.prev_turn_id is None:
            return
        previous = connection.execute(
            _PREVIOUS, {"turn_id": first.prev_turn_id, "chat_id": first.chat_id, "owner": self.owner}
        ).first()
        if previous is None:
            require_chat(connection, self.owner, first.chat_id)
            raise NotFound("no such turn in this chat: prev_turn_id")
        if previous.role == "user" and self.user_turn is not None:
            raise Conflict("a user turn cannot follow a user turn: prev_turn_id", code="invalid_prev_turn")
        if previous.role != "user" and previous.status not in TERMINAL_STATUSES:
            raise Conflict("the turn before has not ended yet: prev_turn_id", code="turn_active")

    def _insert(self, connection: Connection) -> None:
        assistant = self.assistant_turn
        turns_made = (assistant,) if self.user_turn is None else (self.user_turn, assistant)
        driver = driver_of(connection)
        driver.insert(connection, turns, [store_settings(connection, turn) for turn in turns_made])
        driver.insert(connection, blocks, [block_row(row) for row in self.user_blocks])
        if self.idempotency_key is not None:
            connection.execute(
                _INSERT_KEY,
                {
                    "chat_id": assistant.chat_id,
                    "key": self.idempotency_key,
                    "request_hash": self.request_hash or "",
                    "user_turn_id": None if self.user_turn is None else self.user_turn.id,
                    "assistant_turn_id": assistant.id,
                    "created_at": assistant.created_at,
                },
            )


def _turn(connection: Connection, turn_id: str) -> TurnRecord:
    (turn,) = read_turns(connection, [connection.execute(_TURN, {"turn_id": turn_id}).one()])
    return turn
