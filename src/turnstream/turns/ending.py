"""The end of a turn: the outcome that an executor decides, and the terminal event that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from turnstream.core.accumulator import CutBlock
from turnstream.core.blocks import Block
from turnstream.core.history import CANCELLED, CANCELLED_BY_ERROR
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import (
    BlockStart,
    BlockStop,
    Terminal,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
)
from turnstream.core.usage import AccountRecord, StepUsage, Usage
from turnstream.store.base import BlockRecord, OutcomeRecord, TurnRecord
from turnstream.telemetry.measures import TurnMeasures
from turnstream.tools.base import ToolOutput
from turnstream.turnlog.log import TurnLog
from turnstream.turns.clock import now_microseconds
from turnstream.turns.failures import CHAT_DELETED

StopCause: TypeAlias = Literal["cancelled", "shutdown", "orphaned", "deleted"]


STOPPED: dict[StopCause, OutcomeRecord] = {
    "cancelled": OutcomeRecord(status="cancelled"),
    "shutdown": OutcomeRecord(
        status="error",
        error_code="server_shutdown",
        error_message="the server was stopped before the answer was complete: ask again",
    ),
    "deleted": OutcomeRecord(
        status="error", error_code=CHAT_DELETED.code, error_message=CHAT_DELETED.message
    ),
    "orphaned": OutcomeRecord(
        status="error",
        error_code="orphan_timeout",
        error_message="nothing came from the model for too long: ask again",
    ),
}
LOST_EXECUTOR = OutcomeRecord(
    status="error",
    error_code="orphaned",
    error_message="the server went down while the answer was written; what had been kept is here: ask again",
)
LOST_SOURCE = OutcomeRecord(
    status="error",
    error_code="source_lost",
    error_message=(
        "the server that ran this turn was lost, and no other server has the source of its content: "
        "start the turn again"
    ),
)
"""Outcome of a turn whose source belongs to a host application."""
LOST_TOOLS = OutcomeRecord(
    status="error",
    error_code="tools_missing",
    error_message=(
        "the server that wrote this answer was lost, and the one that took it over lacks some of its tools: "
        "ask again"
    ),
)
"""Outcome of a turn with tools that are not registered on the node that took it over."""
UNRECOVERABLE = OutcomeRecord(
    status="error",
    error_code="database_error",
    error_message=(
        "the server went down while the answer was written, and its text cannot be read: ask again"
    ),
)


class CostFields(TypedDict):
    """Cost fields of a terminal event."""

    cost: str | msgspec.UnsetType
    estimated: bool | msgspec.UnsetType
    unpriced: bool | msgspec.UnsetType


def cost_fields(turn: TurnRecord) -> CostFields:
    """Return the cost fields of an ended turn's terminal event, from the turn's row."""
    return {
        "cost": msgspec.UNSET if turn.cost is None else turn.cost,
        "estimated": turn.cost_estimated or msgspec.UNSET,
        "unpriced": is_unpriced(turn) or msgspec.UNSET,
    }


def is_unpriced(turn: TurnRecord) -> bool:
    """Return True if the turn has usage but no cost, because a model's price is not known."""
    return turn.cost is None and any(
        step.model is not None and step.cost is None and step.usage != Usage() for step in turn.steps
    )


def terminal_event(turn: TurnRecord, *, total_blocks: int, blocks_completed: int) -> Terminal:
    """Return the terminal event of an ended turn, from its row. Live and replayed events are the same.

    `blocks_completed` counts the blocks that were not cut off. Raises ValueError if the turn has not ended.
    """
    usage, cost = turn.usage, cost_fields(turn)
    match turn.status:
        case "complete":
            return TurnComplete(
                turn.stop_reason,
                usage.input_tokens,
                usage.output_tokens,
                total_blocks,
                stop_sequence=msgspec.UNSET if turn.stop_sequence is None else turn.stop_sequence,
                usage=usage,
                **cost,
            )
        case "cancelled":
            return TurnCancelled(blocks_completed, usage=usage, **cost)
        case "error":
            code = turn.error_code or "internal_error"
            message = turn.error_message or "the turn failed"
            return TurnError(message, code, blocks_completed, usage=usage, **cost)
        case _:
            raise ValueError(f"turn {turn.id} has not ended: {turn.status}")


def final_outcome(
    outcome: OutcomeRecord, account: AccountRecord, *, last_seq: int, now: int, started_at: int | None = None
) -> OutcomeRecord:
    """Return the outcome of a turn that ends now, with its account.

    Args:
        last_seq: Number of the terminal event.
        now: Microseconds since the epoch.
        started_at: Microseconds since the epoch at which the turn began to stream. None if not known.
    """
    return msgspec.structs.replace(
        outcome,
        **fields_of(AccountRecord, account),
        last_seq=last_seq,
        started_at=started_at,
        completed_at=now,
    )


def fields_of(part: type[msgspec.Struct], record: msgspec.Struct) -> dict[str, Any]:
    """Return the values of the fields of a record that belong to `part`."""
    return {name: getattr(record, name) for name in part.__struct_fields__}


def add_cancelled(
    calls: Sequence[Block],
    next_sequence: int,
    outcome: OutcomeRecord,
    events: list[TurnEvent],
    cuts: list[CutBlock],
) -> None:
    """Append a cancelled result for each call.

    Args:
        calls: Calls without a result.
        next_sequence: Sequence of the first result.
        outcome: Outcome of the turn.
        events: Gets the events of the results.
        cuts: Gets the blocks of the results.
    """
    for block in cancelled_results(calls, next_sequence, outcome):
        start = len(events)
        events.append(BlockStart(block.sequence, "tool_result", block.content))
        cuts.append(CutBlock(block, start, len(events)))
        events.append(BlockStop(block.sequence, "tool_result"))


def cancelled_results(
    calls: Sequence[Block],
    next_sequence: int,
    outcome: OutcomeRecord,
    known: Mapping[int, ToolOutput] = MappingProxyType({}),
) -> list[Block]:
    """Return a result for each call, which reports its cancellation.

    Args:
        calls: Calls without a result.
        next_sequence: Sequence of the first result.
        outcome: Outcome of the turn.
        known: Results of calls that have begun, by the sequence of the call.
    """
    said = ToolOutput(CANCELLED_BY_ERROR if outcome.status == "error" else CANCELLED, is_error=True)
    outputs = [known.get(call.sequence, said) for call in calls]
    return [
        Block(
            sequence,
            "tool_result",
            None,
            {
                "tool_use_id": (call.content or {}).get("tool_use_id", ""),
                "tool_name": (call.content or {}).get("tool_name", ""),
                "content": output.text,
                "is_error": output.is_error,
            },
        )
        for sequence, (call, output) in enumerate(zip(calls, outputs, strict=True), next_sequence)
    ]


def cut_rows(turn_id: str, log: TurnLog, cuts: Sequence[CutBlock]) -> tuple[BlockRecord, ...]:
    """Return the rows of blocks that the end cut off. Their last events come next in the log."""
    base = log.head
    now = now_microseconds()
    return tuple(
        BlockRecord(
            new_id(),
            turn_id,
            cut.block,
            log.open_first_seq if cut.start is None else base + 1 + cut.start,
            base + 1 + cut.stop,
            now,
        )
        for cut in cuts
    )


def count_usage(measures: TurnMeasures, turn: TurnRecord) -> None:
    """Count each step for its own model. Count the turn for its model if the steps are not known."""
    for step in turn.steps or (StepUsage(0, turn.model, turn.usage, turn.cost),):
        model = measures.of_model(step.model)
        model.calls += 1
        if step.cost is not None:
            model.cost += Decimal(step.cost)
        else:
            model.unpriced += 1
        for kind, count in zip(
            step.usage.__struct_fields__, msgspec.structs.astuple(step.usage), strict=True
        ):
            if count:
                model.tokens[kind] = model.tokens.get(kind, 0) + count
