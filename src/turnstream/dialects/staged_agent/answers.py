"""Answers of the staged agent without a stream, and its messages as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.core.lifecycle import TERMINAL_STATUSES, TurnStatus
from turnstream.workflow.commands import WorkflowReport
from turnstream.workflow.events import WorkflowEvent

MessageStatus: TypeAlias = Literal["pending", "streaming", "completed", "failed", "cancelled"]
MESSAGE_STATUS: dict[TurnStatus, MessageStatus] = {
    "pending": "pending",
    "streaming": "streaming",
    "waiting": "streaming",
    "complete": "completed",
    "error": "failed",
    "cancelled": "cancelled",
}
"""Statuses of messages by the statuses of turns."""


def chat_answer(report: WorkflowReport) -> dict[str, Any]:
    """Return a run as the answer to a request without a stream."""
    turn, state = report.turn, report.state
    intent = None
    if state.query_type is not None:
        names = {"original_query": state.query, "enhanced_query": state.request}
        intent = {"query_type": state.query_type, **names}
    execution = None
    if state.output is not None or state.question is not None:
        outputs = [text for text in (state.output, state.question) if text]
        execution = {"success": state.output is not None, "plan": state.plan, "outputs": outputs}
    return {
        "success": turn.status == "complete",
        "workflow_id": turn.id,
        "stage": stage_of(report),
        "query": state.query,
        "intent": intent,
        "context": {
            "items": msgspec.to_builtins(state.items),
            "sufficiency": state.sufficiency,
            "rounds": state.rounds,
        },
        "execution": execution,
        "reflection": state.reflection,
        "errors": [turn.error_message] if turn.error_message else None,
    }


def stage_of(report: WorkflowReport) -> str:
    """Return the stage of a run: `completed`, `failed`, the last stage that gave an event, or `init`."""
    if report.turn.status in TERMINAL_STATUSES:
        return "completed" if report.turn.status == "complete" else "failed"
    return report.events[-1].stage if report.events else "init"


def thinking_rows(message_id: int, events: Sequence[WorkflowEvent]) -> list[dict[str, Any]]:
    """Return the thinking of a message, one row for each event."""
    thoughts = [event for event in events if event.type == "thinking"]
    return [
        {
            "id": number,
            "message_id": message_id,
            "content": event.content,
            "stage": event.stage or None,
            "progress": event.progress or 0.0,
            "sequence": number,
            "metadata": _json(event.metadata),
            "created_at": event.timestamp,
        }
        for number, event in enumerate(thoughts)
    ]


def metadata_of(events: Sequence[WorkflowEvent]) -> str:
    """Return the events that are not thinking as JSON text: a list of events for each type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.type != "thinking" and event.content:
            shown = {
                "content": event.content,
                "timestamp": event.timestamp,
                "stage": event.stage or None,
                "progress": event.progress,
            }
            found.setdefault(event.type, []).append(shown)
    return _json(found)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
