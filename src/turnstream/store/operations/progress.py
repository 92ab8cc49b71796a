"""Writes that move a turn through its life: by compare-and-set on status and generation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, or_, select, update

from turnstream.core.lifecycle import TERMINAL_STATUSES, sources_of
from turnstream.core.usage import CallAttempt, StepUsage
from turnstream.errors import StoreError
from turnstream.store.base import BlockRecord, Operation, OutcomeRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.rows import attempt_row, block_row, outcome_columns, turn_rows
from turnstream.store.schema import attempts, blocks, turns

_MARK_STREAMING = (
    update(turns)
    .where(
        turns.c.id == bindparam("at_id"),
        turns.c.generation == bindparam("at_generation"),
        or_(*(turns.c.status == status for status in sorted(sources_of("streaming")))),
    )
    .values(status="streaming", started_at=func.coalesce(turns.c.started_at, bindparam("now")))
)
_END = (
    update(turns)
    .where(turns.c.id == bindparam("at_id"), turns.c.generation == bindparam("at_generation"))
    .values(started_at=func.coalesce(turns.c.started_at, bindparam("began")))
)
_FINISH = _END.where(turns.c.status.in_(bindparam("at_statuses", expanding=True)))
_TAKE_OVER = _END.where(turns.c.status.not_in(sorted(TERMINAL_STATUSES)))
_SAVE_STEPS = update(turns).where(
    turns.c.id == bindparam("at_id"),
    turns.c.generation == bindparam("at_generation"),
    turns.c.status.not_in(sorted(TERMINAL_STATUSES)),
)
_DELETE_ATTEMPTS = delete(attempts).where(attempts.c.turn_id == bindparam("of_turn"))
_GIVE_UP = update(turns).where(
    turns.c.id == bindparam("at_id"), turns.c.status.not_in(sorted(TERMINAL_STATUSES))
)
_FENCES = select(turns.c.fences).where(turns.c.id == bindparam("turn_id"))
_RESETS = select(turns.c.resets).where(turns.c.id == bindparam("turn_id"))
_SET_RESETS = update(turns).where(turns.c.id == bindparam("at_id"))
_DELETE_BLOCKS = delete(blocks).where(
    blocks.c.turn_id == bindparam("of_turn"), blocks.c.sequence >= bindparam("from_index")
)


class MarkStreaming(Operation[None], frozen=True, kw_only=True):
    """pending → streaming, and from waiting back to it. Of a streaming turn it changes nothing. Raises Fenced."""

    generation: int
    now: int

    def apply(self, connection: Connection) -> None:
        values = {"at_id": self.turn_id, "at_generation": self.generation, "now": self.now}
        if driver_of(connection).update(connection, _MARK_STREAMING, values) == 0:
            require_executor(connection, self.turn_id, self.generation)


class SaveStep(Operation[None], frozen=True, kw_only=True):
    """Store the account of a turn's steps up to one that has ended, and the calls that were tried for them: another process can
    go on from there. Done twice it is done once. Raises Fenced."""

    generation: int
    steps: tuple[StepUsage, ...]
    attempts: tuple[CallAttempt, ...]

    def apply(self, connection: Connection) -> None:
        values = {"at_id": self.turn_id, "at_generation": self.generation, "steps": self.steps or None}
        if connection.execute(_SAVE_STEPS, values).rowcount == 0:
            require_executor(connection, self.turn_id, self.generation)
        rows = [attempt_row(self.turn_id, attempt) for attempt in self.attempts]
        driver_of(connection).insert(connection, attempts, rows)


class TakeBack(Operation[None], frozen=True, kw_only=True):
    """Delete a turn's blocks from `index` on. `seq`, of the event that tells of it, is kept in the turn's resets: who was
    shown the blocks must be told; and as its last seq, up to which the journal does not count any more. Done twice it is
    done once. Raises Fenced."""

    generation: int
    index: int
    seq: int

    def apply(self, connection: Connection) -> None:
        require_executor(connection, self.turn_id, self.generation)
        stored = connection.execute(_RESETS, {"turn_id": self.turn_id}).scalar()
        resets = turn_rows.read("resets", stored, self.turn_id)
        reset = (self.seq, self.index)
        if reset not in resets:
            connection.execute(_DELETE_BLOCKS, {"of_turn": self.turn_id, "from_index": self.index})
            values = {"resets": [*resets, reset], "last_seq": self.seq}
            connection.execute(_SET_RESETS, {"at_id": self.turn_id, **values})


class FinishTurn(Operation[bool], frozen=True, kw_only=True):
    """End a turn, with the blocks that were cut off: one transaction, and only the first end counts.

    Answers True when this ended it; False when it had ended before: then nothing is written. Raises Fenced when
    another executor has the turn or it is gone, and StoreError when it may not become `outcome.status` from what it is.
    `model` None keeps the turn's. With `outcome.started_at` the order of this and MarkStreaming is of no matter: a pending turn
    ends as if it had been marked before.
    """

    generation: int
    outcome: OutcomeRecord
    blocks: tuple[BlockRecord, ...] = ()
    model: str | None = None
    attempts: tuple[CallAttempt, ...] = ()

    def apply(self, connection: Connection) -> bool:
        values = _values_of(self.outcome)
        if self.model is not None:
            values["model"] = self.model
        sources = sources_of(self.outcome.status)
        if self.outcome.started_at is not None:
            sources |= sources_of("streaming")
        where = {"at_id": self.turn_id, "at_generation": self.generation, "at_statuses": sorted(sources)}
        if connection.execute(_FINISH, {**where, **values}).rowcount == 0:
            return _refused(connection, self.turn_id, self.generation, self.outcome)
        driver = driver_of(connection)
        driver.insert(connection, blocks, [block_row(row) for row in self.blocks])
        if any(
            attempt.step for attempt in self.attempts
        ):  # those of earlier steps are stored, some without a price
            connection.execute(_DELETE_ATTEMPTS, {"of_turn": self.turn_id})
        driver.insert(connection, attempts, [attempt_row(self.turn_id, attempt) for attempt in self.attempts])
        return True


class TakeOver(Operation[bool], frozen=True, kw_only=True):
    """End a turn whose executor is gone: as FinishTurn, and its generation rises from `expected_generation` to
    `generation`. `fence_seq`, the last seq of the old generation that survived, is kept in the turn's fences. A status
    that turnstream does not know counts as one that has not ended."""

    expected_generation: int
    generation: int
    fence_seq: int
    blocks: tuple[BlockRecord, ...]
    outcome: OutcomeRecord

    def apply(self, connection: Connection) -> bool:
        stored = connection.execute(_FENCES, {"turn_id": self.turn_id}).scalar()
        fences = turn_rows.read("fences", stored, self.turn_id)
        values = {
            **_values_of(self.outcome),
            "generation": self.generation,
            "fences": [*fences, (self.expected_generation, self.fence_seq)],
        }
        where = {"at_id": self.turn_id, "at_generation": self.expected_generation}
        if connection.execute(_TAKE_OVER, {**where, **values}).rowcount == 0:
            return _refused(connection, self.turn_id, self.expected_generation, self.outcome)
        driver_of(connection).insert(connection, blocks, [block_row(row) for row in self.blocks])
        return True


class GiveUp(Operation[bool], frozen=True, kw_only=True):
    """End a turn that cannot be recovered, whatever its row holds; answer False if it has ended already or is gone.

    Its blocks stay. `last_seq` is above all that watchers can have seen, and no cursor of the lost executor is known any
    more: each watcher gets a full snapshot."""

    last_seq: int
    error_code: str | None
    error_message: str | None
    completed_at: int

    def apply(self, connection: Connection) -> bool:
        generation = func.coalesce(cast(turns.c.generation, BigInteger), 0) + 1
        values = {
            "status": "error",
            "generation": generation,
            "fences": (),
            "resets": None,
            "last_seq": self.last_seq,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "completed_at": self.completed_at,
        }
        return connection.execute(_GIVE_UP.values(values), {"at_id": self.turn_id}).rowcount == 1


def _values_of(outcome: OutcomeRecord) -> dict[str, Any]:
    """Return the values of `_END`. `began` does not replace a time that is stored."""
    values = outcome_columns.values(outcome)
    values["began"] = values.pop("started_at")
    return values


def _refused(connection: Connection, turn_id: str, generation: int, outcome: OutcomeRecord) -> bool:
    """Return False for a turn that has ended. Raise the reason why any other cannot be ended."""
    state = turn_states(connection, [turn_id]).get(turn_id)
    if state is not None and state.status in TERMINAL_STATUSES:
        return False
    refused = refusal(state, generation)
    raise refused or StoreError(
        f"a turn cannot become {outcome.status} from {state and state.status}", retryable=False
    )
