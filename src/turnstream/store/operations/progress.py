"""Writes that change a turn's status. Each compares status and generation before it sets them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, Update, bindparam, cast, delete, func, or_, select, update

from turnstream.core.cursor import first_generation
from turnstream.core.lifecycle import TERMINAL_STATUSES, sources_of
from turnstream.core.usage import CallAttempt, StepUsage
from turnstream.errors import StoreError
from turnstream.store.base import BlockRecord, Operation, OutcomeRecord, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations.fencing import refusal, require_executor, turn_states
from turnstream.store.operations.path_digests import answer_digest
from turnstream.store.rows import attempt_row, block_row, outcome_columns, turn_rows
from turnstream.store.schema import attempts, blocks, turns

_UPDATE = update(turns).where(turns.c.id == bindparam("at_id"))
_UPDATE_OWNED = _UPDATE.where(turns.c.generation == bindparam("at_generation"))
_IS_RUNNING = turns.c.status.not_in(sorted(TERMINAL_STATUSES))
_MARK_STREAMING = _UPDATE_OWNED.where(
    or_(*(turns.c.status == status for status in sorted(sources_of("streaming"))))
).values(status="streaming", started_at=func.coalesce(turns.c.started_at, bindparam("now")))
_END = _UPDATE_OWNED.values(started_at=func.coalesce(turns.c.started_at, bindparam("began")))
_TAKE_OVER = _END.where(_IS_RUNNING)
_SAVE_STEPS = _UPDATE_OWNED.where(_IS_RUNNING)
_DELETE_ATTEMPTS = delete(attempts).where(attempts.c.turn_id == bindparam("of_turn"))
_ABANDON = _UPDATE.where(_IS_RUNNING)
_FENCES = select(turns.c.fences).where(turns.c.id == bindparam("turn_id"))
_ENDED_WITH = select(turns.c.status, turns.c.generation, turns.c.last_seq, turns.c.completed_at).where(
    turns.c.id == bindparam("turn_id")
)
_RESETS = select(turns.c.resets).where(turns.c.id == bindparam("turn_id"))
_DELETE_BLOCKS = delete(blocks).where(
    blocks.c.turn_id == bindparam("of_turn"), blocks.c.sequence >= bindparam("from_index")
)


_MOST_CLAIMS = 100
"""Claims in a row that the fences of a turn can tell. Beyond it, its generations are damaged."""
_OUTCOME = tuple(column.name for column in outcome_columns.columns())


@cache
def _finish(statuses: frozenset[str], *, sets_model: bool) -> Update:
    """Return the update that ends a turn with one of these statuses. `to_COLUMN` is a column's parameter.

    Every turn's end waits for it, so it goes straight to the driver, which needs a fixed statement.
    """
    names = (*_OUTCOME, "path_digest", *(("model",) if sets_model else ()))
    to: dict[str, Any] = {name: bindparam(f"to_{name}") for name in names}
    to["started_at"] = func.coalesce(turns.c.started_at, to["started_at"])
    return _UPDATE_OWNED.where(or_(*(turns.c.status == status for status in sorted(statuses)))).values(to)


class MarkStreaming(Operation[None], frozen=True, kw_only=True):
    """Sets a pending or waiting turn to streaming. Does not change a streaming turn. Raises Fenced."""

    generation: int
    now: int

    def begun(self, turn: TurnRecord) -> TurnRecord:
        """Return the turn's row after this write."""
        if turn.status not in sources_of("streaming"):
            return turn
        return msgspec.structs.replace(turn, status="streaming", started_at=turn.started_at or self.now)

    def apply(self, connection: Connection) -> None:
        values = {"at_id": self.turn_id, "at_generation": self.generation, "now": self.now}
        if driver_of(connection).update(connection, _MARK_STREAMING, values) == 0:
            require_executor(connection, self.turn_id, self.generation)


class SaveStep(Operation[None], frozen=True, kw_only=True):
    """Stores the account and call attempts of a turn's ended steps. Another process can then resume the turn.

    Applying it again changes nothing. Raises Fenced.
    """

    generation: int
    steps: tuple[StepUsage, ...]
    attempts: tuple[CallAttempt, ...]

    def apply(self, connection: Connection) -> None:
        values = {"at_id": self.turn_id, "at_generation": self.generation, "steps": self.steps or None}
        if connection.execute(_SAVE_STEPS, values).rowcount == 0:
            require_executor(connection, self.turn_id, self.generation)
        rows = [attempt_row(self.turn_id, attempt) for attempt in self.attempts]
        driver_of(connection).insert(connection, attempts, rows)


class RetractBlocks(Operation[None], frozen=True, kw_only=True):
    """Retracts a turn's blocks from `index` on: deletes their rows. Raises Fenced.

    Applying it again changes nothing.

    `seq` is the seq of the block_reset event. It is added to the turn's resets, so that watchers of the
    retracted blocks get the reset. It also becomes the turn's last seq: journal segments up to it do not
    count any more.
    """

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
            connection.execute(_UPDATE, {"at_id": self.turn_id, **values})


class FinishTurn(Operation[bool], frozen=True, kw_only=True):
    """Ends a turn, and stores the blocks that were cut off, in one transaction.

    Returns True if this write ended the turn, now or in an earlier attempt. Returns False, and writes
    nothing, if the turn had ended before. Raises Fenced if another executor has the turn or the turn does not
    exist, and StoreError if its status may not change to `outcome.status`.

    `model` None keeps the turn's model. If `outcome.started_at` is set, this write may precede MarkStreaming:
    a pending turn ends as if it had been streaming.
    """

    generation: int
    outcome: OutcomeRecord
    blocks: tuple[BlockRecord, ...] = ()
    model: str | None = None
    attempts: tuple[CallAttempt, ...] = ()

    def ended(self, turn: TurnRecord) -> TurnRecord:
        """Return the turn's row after this write."""
        outcome = msgspec.structs.asdict(self.outcome)
        outcome["started_at"] = turn.started_at or self.outcome.started_at
        return msgspec.structs.replace(turn, **outcome, model=self.model or turn.model)

    def apply(self, connection: Connection) -> bool:
        values = {
            "at_id": self.turn_id,
            "at_generation": self.generation,
            "to_path_digest": answer_digest(connection, self.turn_id, self.blocks),
            "to_model": self.model,
        }
        for name, value in zip(_OUTCOME, outcome_columns.row(self.outcome), strict=True):
            values[f"to_{name}"] = value
        sources = sources_of(self.outcome.status)
        if self.outcome.started_at is not None:
            sources |= sources_of("streaming")
        driver = driver_of(connection)
        if driver.update(connection, _finish(sources, sets_model=self.model is not None), values) == 0:
            return _was_applied(connection, self.turn_id, self.generation, self.outcome) or _refused(
                connection, self.turn_id, self.generation, self.outcome
            )
        driver.insert(connection, blocks, [block_row(row) for row in self.blocks])
        if any(attempt.step for attempt in self.attempts):
            # Attempts of earlier steps are stored, some without a price.
            connection.execute(_DELETE_ATTEMPTS, {"of_turn": self.turn_id})
        driver.insert(connection, attempts, [attempt_row(self.turn_id, attempt) for attempt in self.attempts])
        return True


class TakeOver(Operation[bool], frozen=True, kw_only=True):
    """Like FinishTurn, for a turn whose executor is lost. It also gives the turn a new generation.

    Args:
        expected_generation: Generation of the lost executor, or the one that a claim gave to the turn.
        generation: The new generation. After a claim, it is `expected_generation`.
        fence_seq: The last seq of the old generation that survived. It is added to the turn's fences.
        blocks: Blocks that were cut off.
        outcome: The turn's end.

    A turn with an unknown status counts as running.
    """

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
            "fences": fences_before(self.turn_id, fences, self.generation, self.fence_seq),
            "path_digest": answer_digest(connection, self.turn_id, self.blocks),
        }
        where = {"at_id": self.turn_id, "at_generation": self.expected_generation}
        if connection.execute(_TAKE_OVER, {**where, **values}).rowcount == 0:
            return _was_applied(connection, self.turn_id, self.generation, self.outcome) or _refused(
                connection, self.turn_id, self.expected_generation, self.outcome
            )
        driver_of(connection).insert(connection, blocks, [block_row(row) for row in self.blocks])
        return True


class AbandonTurn(Operation[bool], frozen=True, kw_only=True):
    """Ends a turn that cannot be recovered, even if its row is damaged.

    Returns False if the turn has ended already or does not exist. Its blocks are kept. `last_seq` is greater
    than every seq that watchers can have seen. Cursors of the lost executor are not valid any more, so each
    watcher gets a full snapshot.

    `node`: the node that must have the turn. None: any, or none.
    """

    last_seq: int
    error_code: str | None
    error_message: str | None
    completed_at: int
    node: str | None = None

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
        statement = _ABANDON.values(values)
        if self.node is not None:
            statement = statement.where(turns.c.node == self.node)
        return connection.execute(statement, {"at_id": self.turn_id}).rowcount == 1


def fences_before(
    turn_id: str, fences: Sequence[tuple[int, int]], generation: int, survived: int
) -> list[tuple[int, int]]:
    """Return a turn's fences for `generation`. Each generation without a fence so far gets `survived`.

    There are several such generations if a node that had claimed the turn was lost too.
    """
    if fences and fences[-1][0] + 1 == generation:
        return list(fences)
    first = fences[-1][0] + 1 if fences else first_generation(turn_id)
    if not first < generation <= first + _MOST_CLAIMS:
        first = generation - 1
    return [*fences, *((number, survived) for number in range(first, generation))]


def _values_of(outcome: OutcomeRecord) -> dict[str, Any]:
    """Return the values of `_END`. `began` does not replace a stored time."""
    values = outcome_columns.values(outcome)
    values["began"] = values.pop("started_at")
    return values


def _was_applied(connection: Connection, turn_id: str, generation: int, outcome: OutcomeRecord) -> bool:
    """Return True if a turn ended with this outcome: the write is repeated, because its answer was lost."""
    found = connection.execute(_ENDED_WITH, {"turn_id": turn_id}).first()
    return found is not None and tuple(found) == (
        outcome.status,
        generation,
        outcome.last_seq,
        outcome.completed_at,
    )


def _refused(connection: Connection, turn_id: str, generation: int, outcome: OutcomeRecord) -> bool:
    """Return False if the turn has ended in this generation. Otherwise raise the reason of the refusal."""
    state = turn_states(connection, [turn_id]).get(turn_id)
    if state is not None and state.generation == generation and state.status in TERMINAL_STATUSES:
        return False
    refused = refusal(state, generation)
    raise refused or StoreError(
        f"a turn cannot become {outcome.status} from {state and state.status}", retryable=False
    )
