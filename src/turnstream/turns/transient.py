"""Transient turns: turns without rows, which the same executor writes and the same watchers read.

    request ─► its idempotency key, in memory ─► the turn is kept ─► its start is shown ─► the executor runs

Nothing is awaited between these steps. The end of such a turn, and the blocks before it, are in memory until
the turn is dropped (`store.transient`). A process that dies loses the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from turnstream.audit.records import AuditRecord
from turnstream.audit.trail import AuditTrail
from turnstream.core.cursor import first_generation
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound, TurnstreamError
from turnstream.model_loop.sources import TurnSource
from turnstream.store.base import TurnRecord
from turnstream.store.transient.turns import TransientTurns, TurnName
from turnstream.turns.clock import now_microseconds
from turnstream.turns.model_turns import ModelTurns
from turnstream.turns.new_turns import (
    StartedTurn,
    TurnRequest,
    assistant_turn,
    idempotency_conflict,
    start_event,
)
from turnstream.turns.registry import Registry


class TransientCommands:
    """Starts transient turns."""

    def __init__(self, registry: Registry, models: ModelTurns) -> None:
        self._registry = registry
        self._models = models
        self._turns: TransientTurns = registry.transient

    def replayed(self, owner: str, request: TurnRequest) -> StartedTurn | None:
        """Return the turn of an earlier request with the same idempotency key, while the turn lives, or None.

        Raises Conflict if the earlier request was different.
        """
        if request.idempotency_key is None:
            return None
        name = _key_name(owner, request, request.idempotency_key)
        turn = self._turns.named(name)
        if turn is None:
            return None
        if self._turns.named(name._replace(kind="request", name=_used_for(name, request))) is not turn:
            raise idempotency_conflict()
        return StartedTurn(None, (), turn, replayed=True)

    def start(
        self, owner: str, request: TurnRequest, source: Callable[[TurnRecord], TurnSource]
    ) -> StartedTurn:
        """Start a turn. Raises Conflict, and Unavailable if no more turns may run."""
        if (replayed := self.replayed(owner, request)) is not None:
            return replayed
        turn_id = new_id(self._turns.home)
        turn = msgspec.structs.replace(
            assistant_turn(owner, request, None),
            id=turn_id,
            generation=first_generation(turn_id),
            chat_id=request.chat_id or self._chat_of(owner, request) or new_id(),
            created_at=now_microseconds(),
        )
        executor = self._models.executor(turn, is_stored=False)
        read = source(turn)
        self._registry.reserve(executor, read)
        self._turns.add(turn, _names(owner, request))
        executor.begin(start_event(turn))
        self._registry.launch(executor, read)
        return StartedTurn(None, (), turn)

    async def start_audited(
        self,
        owner: str,
        request: TurnRequest,
        source: Callable[[TurnRecord], TurnSource],
        audit: AuditTrail,
    ) -> StartedTurn:
        """Start a turn as `start` does, once its record is durable.

        Raises Unavailable (`audit_unavailable`) too.
        """
        details = {"model": request.asked_model or "", "rows": False}
        record = AuditRecord(act="turn.start", owner=owner, decision="allowed", details=details)
        await audit.require(msgspec.structs.replace(record, outcome="begun"))
        try:
            started = self.start(owner, request, source)
        except TurnstreamError as error:
            audit.note(msgspec.structs.replace(record, outcome=error.code))
            raise
        turn, outcome = started.assistant_turn, "replayed" if started.replayed else "done"
        audit.note(msgspec.structs.replace(record, outcome=outcome, turn=turn.id, chat=turn.chat_id))
        return started

    def require_stored(self, turn_id: str) -> None:
        """Raise NotFound for a transient turn: no turn can follow it."""
        if turn_id in self._turns:
            raise NotFound("prev_turn_id names a transient turn, which no turn can follow: leave it out")

    def _chat_of(self, owner: str, request: TurnRequest) -> str | None:
        """Return the id of the chat that other transient turns of the client's chat have, or None."""
        if request.client_chat_id is None:
            return None
        turn = self._turns.named(TurnName(owner, "chat", request.client_chat_id))
        return None if turn is None else turn.chat_id


def _names(owner: str, request: TurnRequest) -> Iterator[TurnName]:
    if (key := request.idempotency_key) is not None:
        name = _key_name(owner, request, key)
        yield name
        yield name._replace(kind="request", name=_used_for(name, request))
    if request.client_chat_id is not None:
        yield TurnName(owner, "chat", request.client_chat_id)
    if request.client_run_id is not None:
        yield TurnName(owner, "run", request.client_run_id)


def _key_name(owner: str, request: TurnRequest, key: str) -> TurnName:
    """Return the name of a key. Keys of different chats are different."""
    return TurnName(owner, "key", f"{request.chat_id or request.client_chat_id or ''} {key}")


def _used_for(name: TurnName, request: TurnRequest) -> str:
    return f"{name.name} {request.fingerprint or ''}"
