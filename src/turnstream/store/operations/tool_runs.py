"""Writes of the ledger of tool calls."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, select, update

from turnstream.core.blocks import Block, call_id
from turnstream.errors import StoreError
from turnstream.store.base import Operation
from turnstream.store.database import driver_of
from turnstream.store.ledger.queries import OF_TURN, ToolRun, tool_run_of
from turnstream.store.operations.fencing import require_executor
from turnstream.store.schema import blocks, tool_runs

_FIRST_SEQ = select(blocks.c.first_seq).where(
    blocks.c.turn_id == bindparam("turn_id"), blocks.c.sequence == bindparam("sequence")
)
_RUN = OF_TURN.where(tool_runs.c.first_seq == bindparam("first_seq"))
_AT = update(tool_runs).where(
    tool_runs.c.turn_id == bindparam("of_turn"), tool_runs.c.first_seq == bindparam("at_seq")
)
_END = _AT.where(tool_runs.c.attempt == bindparam("of_attempt"))
_same = tool_runs.alias("same")
_FORGET_RESULT = delete(tool_runs).where(
    tool_runs.c.turn_id == bindparam("of_turn"),
    tool_runs.c.first_seq
    == select(func.min(_same.c.first_seq))
    .where(
        _same.c.turn_id == bindparam("of_turn"),
        _same.c.tool_use_id == bindparam("of_call"),
        _same.c.output == bindparam("with_output"),
    )
    .scalar_subquery(),
)
FORGET_TURN = delete(tool_runs).where(tool_runs.c.turn_id == bindparam("of_turn"))


def forget_result(connection: Connection, turn_id: str, result: Block) -> None:
    """Delete a result from the ledger: its block is stored.

    Several calls of a turn may have one id. Their results are stored in the order of the calls, so this one
    belongs to the first of them that has its text.
    """
    output = (result.content or {}).get("content")
    if isinstance(output, str):
        values = {"of_turn": turn_id, "of_call": call_id(result), "with_output": output}
        connection.execute(_FORGET_RESULT, values)


class BeginToolRun(Operation[ToolRun], frozen=True, kw_only=True):
    """Notes that a tool call begins. Returns its row: the call may run if the row has this `attempt`.

    A call that has begun before keeps its row, unless it has no result and `may_repeat` is True. Applying the
    same write again changes nothing. Raises Fenced, and StoreError if the call's block is not stored.

    Args:
        sequence: Sequence of the call's block.
        attempt: Id of this attempt to run the call.
        now: Time in microseconds since the epoch.
    """

    generation: int
    sequence: int
    attempt: str
    tool_use_id: str
    tool_name: str
    now: int
    may_repeat: bool = False

    def apply(self, connection: Connection) -> ToolRun:
        require_executor(connection, self.turn_id, self.generation)
        place = {"turn_id": self.turn_id, "sequence": self.sequence}
        first_seq = connection.execute(_FIRST_SEQ, place).scalar()
        if first_seq is None:
            raise StoreError(f"the tool call in block {self.sequence} is not stored", retryable=False)
        begun = ToolRun(
            self.turn_id,
            first_seq,
            self.attempt,
            self.tool_use_id,
            self.tool_name,
            self.generation,
            self.now,
        )
        if driver_of(connection).insert(connection, tool_runs, [msgspec.structs.astuple(begun)]) == 1:
            return begun
        found = tool_run_of(connection.execute(_RUN, {"turn_id": self.turn_id, "first_seq": first_seq}).one())
        if found.attempt == self.attempt or found.output is not None or not self.may_repeat:
            return found
        values = {"attempt": self.attempt, "generation": self.generation, "begun_at": self.now}
        connection.execute(_AT.values(values), {"of_turn": self.turn_id, "at_seq": first_seq})
        return begun


class EndToolRun(Operation[None], frozen=True, kw_only=True):
    """Stores the result of an attempt to run a tool call. Changes nothing if another attempt has begun.

    It is not fenced: the call has run, and the executor that has taken its turn over may use the result.
    """

    first_seq: int
    attempt: str
    output: str
    is_error: bool

    def apply(self, connection: Connection) -> None:
        where = {"of_turn": self.turn_id, "at_seq": self.first_seq, "of_attempt": self.attempt}
        connection.execute(_END.values(output=self.output, is_error=self.is_error), where)
