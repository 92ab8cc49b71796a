"""Records of the ledger of tool calls, and the read of a turn's calls."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from turnstream.store.base import Query
from turnstream.store.schema import tool_runs

OF_TURN = select(tool_runs).where(tool_runs.c.turn_id == bindparam("turn_id")).order_by(tool_runs.c.first_seq)


class ToolRun(msgspec.Struct, frozen=True, gc=False):
    """A tool call that has begun.

    Args:
        first_seq: First seq of the call's block. It names the call in its turn.
        attempt: Id of the attempt that runs the call, or has run it.
        generation: Generation of the executor of this attempt.
        begun_at: Time at which this attempt began, in microseconds since the epoch.
        output: Result for the model. None if the call has none yet.
        is_error: True if the result is an error. None without a result.
    """

    turn_id: str
    first_seq: int
    attempt: str
    tool_use_id: str
    tool_name: str
    generation: int
    begun_at: int
    output: str | None = None
    is_error: bool | None = None

    @property
    def key(self) -> str:
        """Name of the call, unique among the calls of all turns."""
        return f"{self.turn_id}-{self.first_seq}"


class ToolRunsOfTurn(Query[list[ToolRun]], frozen=True, kw_only=True):
    """Reads the tool calls of a turn that have begun and whose result is not stored as a block, in order."""

    turn_id: str

    def fetch(self, connection: Connection) -> list[ToolRun]:
        return [tool_run_of(row) for row in connection.execute(OF_TURN, {"turn_id": self.turn_id})]


def tool_run_of(row: Row[Any]) -> ToolRun:
    """Return the record of a row, whose columns are in the order of the table."""
    return ToolRun(*row)
