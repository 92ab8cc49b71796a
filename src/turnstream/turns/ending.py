"""How a turn ends: the outcome an executor decides, and the terminal event that tells it (D1, D7)."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from turnstream.core.lifecycle import TerminalStatus
from turnstream.core.turn_events import Terminal, TurnCancelled, TurnComplete, TurnError
from turnstream.store.base import Turn

StopCause: TypeAlias = Literal["cancelled", "shutdown", "orphaned"]


class Outcome(NamedTuple):
    """How a turn ended; `message` is for clients."""

    status: TerminalStatus
    stop_reason: str | None = None
    code: str | None = None
    message: str | None = None


STOPPED: dict[StopCause, Outcome] = {
    "cancelled": Outcome("cancelled"),
    "shutdown": Outcome(
        "error",
        code="server_shutdown",
        message="the server was stopped before the answer was complete",
    ),
    "orphaned": Outcome("error", code="orphan_timeout", message="nothing came from the model for too long"),
}
LOST_EXECUTOR = Outcome(
    "error",
    code="orphaned",
    message="the server went down while the answer was written; what had been kept is here",
)


def terminal_event(turn: Turn, *, total_blocks: int, blocks_completed: int) -> Terminal:
    """The terminal event of an ended turn, from its row: the same whether told live or years later.

    `blocks_completed` counts the blocks that were not cut off.
    """
    usage = turn.usage
    match turn.status:
        case "complete":
            return TurnComplete(
                turn.stop_reason, usage.input_tokens, usage.output_tokens, total_blocks, usage=usage
            )
        case "cancelled":
            return TurnCancelled(blocks_completed, usage=usage)
        case "error":
            code = turn.error_code or "internal_error"
            return TurnError(turn.error_message or "the turn failed", code, blocks_completed, usage=usage)
        case _:
            raise ValueError(f"turn {turn.id} has not ended: {turn.status}")
