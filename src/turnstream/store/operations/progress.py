"""Writes that move a turn through its life: by compare-and-set on status and generation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from turnstream.core.lifecycle import TERMINAL_STATUSES, TerminalStatus, TurnStatus, sources_of
from turnstream.core.usage import Usage
from turnstream.errors import Fenced, StoreError
from turnstream.store.base import Operation, StoredBlock
from turnstream.store.operations.content import insert_blocks
from turnstream.store.operations.fencing import refusal, turn_states
from turnstream.store.rows import usage_values
from turnstream.store.schema import journal, turns


class MarkStreaming(Operation[None], frozen=True, kw_only=True):
    """pending → streaming, and from waiting back to it. Of a streaming turn it changes nothing. Raises Fenced."""

    generation: int
    now: int

    def apply(self, connection: Connection) -> None:
        values = {"status": "streaming", "started_at": func.coalesce(turns.c.started_at, self.now)}
        if not _compare_and_set(connection, self.turn_id, self.generation, "streaming", values):
            refused = refusal(turn_states(connection, [self.turn_id]).get(self.turn_id), self.generation)
            if refused is not None:
                raise refused


class FinishTurn(Operation[bool], frozen=True, kw_only=True):
    """End a turn, with the blocks that were cut off: one transaction, and only the first end counts.

    Answers True when this ended it; False when it had ended before: then nothing is written. Raises Fenced when
    another executor has the turn or it is gone, and StoreError when it may not become `status` from what it is.
    `model` None keeps the turn's.
    """

    generation: int
    status: TerminalStatus
    blocks: tuple[StoredBlock, ...]
    last_seq: int
    stop_reason: str | None
    error_code: str | None
    error_message: str | None
    usage: Usage
    model: str | None
    completed_at: int

    def apply(self, connection: Connection) -> bool:
        values: dict[str, Any] = {
            "status": self.status,
            "last_seq": self.last_seq,
            "stop_reason": self.stop_reason,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "completed_at": self.completed_at,
            **usage_values(self.usage),
        }
        if self.model is not None:
            values["model"] = self.model
        if not _compare_and_set(connection, self.turn_id, self.generation, self.status, values):
            _explain_refusal(connection, self.turn_id, self.generation, self.status)
            return False
        insert_blocks(connection, self.blocks)
        _delete_journal(connection, self.turn_id)
        return True


class TakeOver(Operation[bool], frozen=True, kw_only=True):
    """End a turn whose executor is gone: as FinishTurn, and its generation rises from `expected_generation` to
    `generation`. `fence_seq`, the last seq of the old generation that survived, is kept in the turn's fences."""

    expected_generation: int
    generation: int
    fence_seq: int
    blocks: tuple[StoredBlock, ...]
    status: TerminalStatus
    error_code: str | None
    error_message: str | None
    last_seq: int
    completed_at: int

    def apply(self, connection: Connection) -> bool:
        fences = connection.execute(select(turns.c.fences).where(turns.c.id == self.turn_id)).scalar()
        values: dict[str, Any] = {
            "status": self.status,
            "generation": self.generation,
            "fences": [*(fences or ()), (self.expected_generation, self.fence_seq)],
            "last_seq": self.last_seq,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "completed_at": self.completed_at,
        }
        if not _compare_and_set(connection, self.turn_id, self.expected_generation, self.status, values):
            _explain_refusal(connection, self.turn_id, self.expected_generation, self.status)
            return False
        insert_blocks(connection, self.blocks)
        _delete_journal(connection, self.turn_id)
        return True


def _compare_and_set(
    connection: Connection, turn_id: str, generation: int, status: TurnStatus, values: dict[str, Any]
) -> bool:
    """Set `values` if the turn has `generation` and may become `status`."""
    statement = update(turns).where(
        turns.c.id == turn_id,
        turns.c.generation == generation,
        turns.c.status.in_(sorted(sources_of(status))),
    )
    return connection.execute(statement.values(values)).rowcount == 1


def _explain_refusal(connection: Connection, turn_id: str, generation: int, status: TurnStatus) -> None:
    """Returns when the turn has ended."""
    state = turn_states(connection, [turn_id]).get(turn_id)
    if state is None or (state.status not in TERMINAL_STATUSES and state.generation != generation):
        raise refusal(state, generation) or Fenced("the turn is not this executor's")
    if state.status not in TERMINAL_STATUSES:
        raise StoreError(f"a turn cannot become {status} from {state.status}", retryable=False)


def _delete_journal(connection: Connection, turn_id: str) -> None:
    connection.execute(delete(journal).where(journal.c.turn_id == turn_id))
