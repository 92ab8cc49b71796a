"""The write that starts turns."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from turnstream.core.lifecycle import TERMINAL_STATUSES
from turnstream.errors import Conflict, NotFound
from turnstream.store.base import SET_BY_STORE, BlockRecord, Operation, TurnRecord
from turnstream.store.conversation_digest import NO_TURNS, path_digest
from turnstream.store.database import driver_of
from turnstream.store.operations.chats import chosen, next_moment, require_chat, touch_chat
from turnstream.store.operations.opening import (
    ClientTurnId,
    Opening,
    PlacedOpening,
    place_opening,
    store_client_ids,
    store_opening,
)
from turnstream.store.rows import block_row
from turnstream.store.schema import blocks, idempotency, turns
from turnstream.store.settings import read_turns, store_settings

_USE_OF_KEY = select(idempotency).where(
    idempotency.c.chat_id == bindparam("chat_id"), idempotency.c.key == bindparam("key")
)
_PREVIOUS = select(turns.c.role, turns.c.status, turns.c.path_digest).where(
    turns.c.id == bindparam("turn_id"),
    turns.c.chat_id == bindparam("chat_id"),
    turns.c.owner == bindparam("owner"),
)
_TURN = select(turns).where(turns.c.id == bindparam("turn_id"))


Turn = TypeVar("Turn", TurnRecord, TurnRecord | None)


class StartedRecords(msgspec.Struct, frozen=True):
    """The started turns.

    `replayed`: True for the turns of the first use of an idempotency key, as they are now.
    `alternatives`: the further answers. Empty if `replayed`.
    """

    user_turn: TurnRecord | None
    assistant_turn: TurnRecord
    replayed: bool
    alternatives: tuple[TurnRecord, ...] = ()


class StartTurns(Operation[StartedRecords], frozen=True, kw_only=True):
    """Stores a user turn with its blocks, and the pending turn that answers it, in one transaction.

    If `user_turn` is None, the assistant turn follows its own `prev_turn_id`, which may be a user turn or an
    assistant turn. Times that are `SET_BY_STORE` are set. Applying the same operation again changes nothing,
    and returns the turns as they are.

    Args:
        user_entries: Digests of the user turn's entries (`store.conversation_digest`).
        client_ids: Ids that the client gave to the turns.
        opening: Part of the conversation to store before these turns.
        alternatives: Further pending turns that answer the same turn. Each is created one microsecond after
            the one before it.

    Raises NotFound if the chat or the previous turn does not belong to the owner. Raises Conflict
    `turn_active` if the previous turn is running, `invalid_prev_turn` if a user turn would follow a user
    turn, and `idempotency_mismatch` if the key started other turns in this chat.
    """

    owner: str
    user_turn: TurnRecord | None
    assistant_turn: TurnRecord
    user_blocks: tuple[BlockRecord, ...] = ()
    user_entries: tuple[str, ...] = ()
    client_ids: tuple[ClientTurnId, ...] = ()
    idempotency_key: str | None = None
    request_hash: str | None = None
    opening: Opening | None = None
    alternatives: tuple[TurnRecord, ...] = ()

    @property
    def changed_owner(self) -> str:
        return self.owner

    @property
    def started_turns(self) -> tuple[str, ...]:
        return (self.assistant_turn.id, *(turn.id for turn in self.alternatives))

    def apply(self, connection: Connection) -> StartedRecords:
        if self.opening is None:
            return self._start(connection, None)
        placed = place_opening(connection, self.owner, self.opening, self.assistant_turn.chat_id)
        return self._following(placed)._start(connection, placed)  # noqa: SLF001 - the same class

    def _following(self, placed: PlacedOpening) -> StartTurns:
        """Return this operation for the chat of `placed`. Its turns follow the last turn of `placed`."""
        last = placed.opening.last
        after = placed.after if last is None else last.turn.id
        first = self.user_turn or self.assistant_turn
        place = {"chat_id": placed.chat_id, "prev_turn_id": after or first.prev_turn_id}
        if self.user_turn is None:
            return msgspec.structs.replace(
                self, assistant_turn=msgspec.structs.replace(self.assistant_turn, **place)
            )
        return msgspec.structs.replace(
            self,
            user_turn=msgspec.structs.replace(self.user_turn, **place),
            assistant_turn=msgspec.structs.replace(self.assistant_turn, chat_id=placed.chat_id),
        )

    def _start(self, connection: Connection, placed: PlacedOpening | None) -> StartedRecords:
        opening = None if placed is None else placed.opening
        has_key = self.idempotency_key is not None and (opening is None or opening.new_chat is None)
        if has_key:
            require_chat(connection, self.owner, self.assistant_turn.chat_id)
            used = self._use_of_key(connection)
            if used is not None:
                return self._replay(connection, used)
        first = self.user_turn or self.assistant_turn
        last = None if opening is None else opening.last
        before = self._check_previous(
            connection, first if opening is None or last is None else opening.imported[0].turn
        )
        if last is not None:
            before = last.path_digest
        assistant = self.assistant_turn
        moment, is_repeated = next_moment(connection, self.owner, assistant.id)
        if is_repeated:
            return self._stored(connection)
        moment = chosen(assistant.created_at, moment)
        if has_key and not self._claim_key(connection, moment):
            used = self._use_of_key(connection)
            assert used is not None, "the key's row exists"
            return self._replay(connection, used)
        if placed is not None:
            store_opening(connection, self.owner, placed, moment)
            moment += len(placed.opening.imported)
        touch_chat(connection, self.owner, assistant, moment + len(self.alternatives))
        others = tuple(_timed(turn, moment + number) for number, turn in enumerate(self.alternatives, 1))
        started = StartedRecords(
            _timed(self.user_turn, moment), _timed(assistant, moment), replayed=False, alternatives=others
        )
        self._insert(connection, started, before)
        if not has_key and self.idempotency_key is not None:
            self._claim_key(connection, moment)
        return started

    def _stored(self, connection: Connection) -> StartedRecords:
        """Return the turns of this operation, which was applied before."""
        user_turn = None if self.user_turn is None else _turn(connection, self.user_turn.id)
        others = tuple(_turn(connection, turn.id) for turn in self.alternatives)
        return StartedRecords(
            user_turn, _turn(connection, self.assistant_turn.id), replayed=False, alternatives=others
        )

    def _claim_key(self, connection: Connection, moment: int) -> bool:
        """Store the use of the key. Return False if another request has used it.

        In an existing chat this is the first write. So of two nodes that start turns with one key, the second
        waits here for the first, and then finds its turns.
        """
        user_turn_id = None if self.user_turn is None else self.user_turn.id
        given = (self.assistant_turn.chat_id, self.idempotency_key, self.request_hash or "")
        row = (*given, user_turn_id, self.assistant_turn.id, moment)
        return driver_of(connection).insert(connection, idempotency, [row]) == 1

    def _use_of_key(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(
            _USE_OF_KEY, {"chat_id": self.assistant_turn.chat_id, "key": self.idempotency_key}
        ).first()

    def _replay(self, connection: Connection, used: Row[Any]) -> StartedRecords:
        if used.request_hash != (self.request_hash or ""):
            raise Conflict(
                "this idempotency key was used for another request in this chat: use a new key",
                code="idempotency_mismatch",
            )
        if used.assistant_turn_id == self.assistant_turn.id:
            return self._stored(connection)
        user_turn = None if used.user_turn_id is None else _turn(connection, used.user_turn_id)
        return StartedRecords(user_turn, _turn(connection, used.assistant_turn_id), replayed=True)

    def _check_previous(self, connection: Connection, first: TurnRecord) -> str | None:
        """Return the digest of the path before the turn `first`, or None if it has none."""
        if first.prev_turn_id is None:
            return NO_TURNS
        previous = connection.execute(
            _PREVIOUS, {"turn_id": first.prev_turn_id, "chat_id": first.chat_id, "owner": self.owner}
        ).first()
        if previous is None:
            require_chat(connection, self.owner, first.chat_id)
            raise NotFound("prev_turn_id does not name a turn of this chat: list its turns")
        if previous.role == first.role == "user":
            raise Conflict(
                "a user turn cannot follow a user turn: give the prev_turn_id of an answer",
                code="invalid_prev_turn",
            )
        if previous.role != "user" and previous.status == "waiting":
            raise Conflict(
                "the turn before (prev_turn_id) waits for an approval: answer or interrupt it first",
                code="turn_active",
            )
        if previous.role != "user" and previous.status not in TERMINAL_STATUSES:
            raise Conflict(
                "the turn before (prev_turn_id) has not ended yet: wait for its end, or interrupt it",
                code="turn_active",
            )
        return previous.path_digest

    def _insert(self, connection: Connection, started: StartedRecords, before: str | None) -> None:
        """Insert the rows. `before`: digest of the path before the turns."""
        user, assistant = started.user_turn, started.assistant_turn
        driver = driver_of(connection)
        rows = [store_settings(connection, turn) for turn in (assistant, *started.alternatives)]
        if user is not None:
            digest = None if before is None else path_digest(before, self.user_entries)
            rows.insert(0, store_settings(connection, user, digest))
        driver.insert(connection, turns, rows)
        driver.insert(connection, blocks, [block_row(row) for row in self.user_blocks])
        if self.client_ids:
            store_client_ids(connection, self.owner, assistant.chat_id, self.client_ids)


def _timed(turn: Turn, moment: int) -> Turn:
    """Return the turn, with `moment` for each time that is `SET_BY_STORE`.

    A user turn ends when it begins.
    """
    if turn is None or turn.created_at != SET_BY_STORE:
        return turn
    completed = moment if turn.completed_at == SET_BY_STORE else turn.completed_at
    return msgspec.structs.replace(turn, created_at=moment, completed_at=completed)


def _turn(connection: Connection, turn_id: str) -> TurnRecord:
    (turn,) = read_turns(connection, [connection.execute(_TURN, {"turn_id": turn_id}).one()])
    return turn
