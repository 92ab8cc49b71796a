"""Writes that move a turn through its life: by compare-and-set on status and generation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, or_, select, update

from turnstream.core.lifecycle import TERMINAL_STATUSES, TerminalStatus, sources_of
from turnstream.core.usage import CallAttempt, StepUsage, Usage
from turnstream.errors import StoreError
from turnstream.store.base import BlockRecord, Operation
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.rows import attempt_row, block_row, cost_values, pairs_of, usage_values
from turnstream.store.schema import attempts, blocks, turns

_COMPARE_AND_SET = update(turns).where(
    turns.c.id == bindparam("at_id"),
    turns.c.generation == bindparam("at_generation"),
    turns.c.status.in_(bindparam("at_statuses", expanding=True)),
)
_COMPARE_AND_SET_STARTED = _COMPARE_AND_SET.values(
    started_at=func.coalesce(turns.c.started_at, bindparam("began"))
)
_MARK_STREAMING = (
    update(turns)
    .where(
        turns.c.id == bindparam("at_id"),
        turns.c.generation == bindparam("at_generation"),
        or_(*(turns.c.status == status for status in sorted(sources_of("streaming")))),
    )
    .values(status="streaming", started_at=func.coalesce(turns.c.started_at, bindparam("now")))
)
_TAKE_OVER = update(turns).where(
    turns.c.id == bindparam("at_id"),
    turns.c.generation == bindparam("at_generation"),
    turns.c.status.not_in(sorted(TERMINAL_STATUSES)),
)
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


class TakeBack(Operation[None], frozen=True, kw_only=True):
    """Delete a turn's blocks from `index` on. `seq`, of the event that tells of it, is kept in the turn's resets: who was
    shown the blocks must be told; and as its last seq, up to which the journal does not count any more. Done twice it is
    done once. Raises Fenced."""

    generation: int
    index: int
    seq: int

    def apply(self, connection: Connection) -> None:
        require_executor(connection, self.turn_id, self.generation)
        connection.execute(_DELETE_BLOCKS, {"of_turn": self.turn_id, "from_index": self.index})
        stored = connection.execute(_RESETS, {"turn_id": self.turn_id}).scalar()
        resets = pairs_of(stored, self.turn_id, "resets")
        reset = (self.seq, self.index)
        if reset not in resets:
            values = {"resets": [*resets, reset], "last_seq": self.seq}
            connection.execute(_SET_RESETS, {"at_id": self.turn_id, **values})


class FinishTurn(Operation[bool], frozen=True, kw_only=True):
    """End a turn, with the blocks that were cut off: one transaction, and only the first end counts.

    Answers True when this ended it; False when it had ended before: then nothing is written. Raises Fenced when
    another executor has the turn or it is gone, and StoreError when it may not become `status` from what it is.
    `model` None keeps the turn's. `cost`, `cost_estimated`, `steps`: as in `Turn`. `started_at`: when the turn began to
    stream, None if it did not. With it the order of this and MarkStreaming is of no matter: a pending turn ends as if it
    had been marked before.
    """

    generation: int
    status: TerminalStatus
    blocks: tuple[BlockRecord, ...]
    last_seq: int
    stop_reason: str | None
    error_code: str | None
    error_message: str | None
    usage: Usage
    model: str | None
    completed_at: int
    cost: str | None = None
    cost_estimated: bool = False
    steps: tuple[StepUsage, ...] = ()
    attempts: tuple[CallAttempt, ...] = ()
    started_at: int | None = None

    def apply(self, connection: Connection) -> bool:
        values: dict[str, Any] = {
            "status": self.status,
            "last_seq": self.last_seq,
            "stop_reason": self.stop_reason,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "completed_at": self.completed_at,
            **usage_values(self.usage),
            **cost_values(self.cost, self.steps, estimated=self.cost_estimated),
        }
        if self.model is not None:
            values["model"] = self.model
        sources = sources_of(self.status)
        statement = _COMPARE_AND_SET
        if self.started_at is not None:
            sources |= sources_of("streaming")
            statement = _COMPARE_AND_SET_STARTED
            values["began"] = self.started_at
        where = {"at_id": self.turn_id, "at_generation": self.generation, "at_statuses": sorted(sources)}
        if connection.execute(statement, {**where, **values}).rowcount == 0:
            return _refused(connection, self.turn_id, self.generation, self.status)
        driver = driver_of(connection)
        driver.insert(connection, blocks, [block_row(row) for row in self.blocks])
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
    status: TerminalStatus
    error_code: str | None
    error_message: str | None
    last_seq: int
    completed_at: int
    usage: Usage = Usage()
    cost: str | None = None
    cost_estimated: bool = False
    steps: tuple[StepUsage, ...] = ()

    def apply(self, connection: Connection) -> bool:
        stored = connection.execute(_FENCES, {"turn_id": self.turn_id}).scalar()
        fences = pairs_of(stored, self.turn_id, "fences")
        values: dict[str, Any] = {
            "status": self.status,
            "generation": self.generation,
            "fences": [*fences, (self.expected_generation, self.fence_seq)],
            "last_seq": self.last_seq,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "completed_at": self.completed_at,
            **usage_values(self.usage),
            **cost_values(self.cost, self.steps, estimated=self.cost_estimated),
        }
        where = {"at_id": self.turn_id, "at_generation": self.expected_generation}
        if connection.execute(_TAKE_OVER, {**where, **values}).rowcount == 0:
            return _refused(connection, self.turn_id, self.expected_generation, self.status)
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


def _refused(connection: Connection, turn_id: str, generation: int, status: TerminalStatus) -> bool:
    """Return False for a turn that has ended. Raise the reason why any other cannot be ended."""
    state = turn_states(connection, [turn_id]).get(turn_id)
    if state is not None and state.status in TERMINAL_STATUSES:
        return False
    refused = refusal(state, generation)
    raise refused or StoreError(
        f"a turn cannot become {status} from {state and state.status}", retryable=False
    )
