"""The events of a workflow, as stages yield them and as the log of the turn has them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from turnstream.core.turn_events import Data

EVENT = "workflow"
"""Name of the `data` events that show a workflow's events."""
STATE = "workflow_state"
"""Name of the `data` events that hold a workflow's state at the end of a stage."""

EventType: TypeAlias = Literal["thinking", "running", "done", "fail", "completed"]
ENDS: frozenset[EventType] = frozenset({"done", "fail", "completed"})
"""Types of the event that ends a stage."""


class WorkflowEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of a stage. The stage sets the first four fields, and the run sets the others.

    Args:
        type: `thinking` and `running` tell what the stage does. `done` ends the stage, and `completed` the
            run. `fail` ends the run as failed, and `content` is the error.
        content: Text for people.
        metadata: Details for programs, as JSON.
        progress: Progress of the stage, from 0 to 1. In the log: progress of the run. None: unchanged.
        timestamp: Time (ISO 8601, UTC).
        stage: Name of the stage.
        node: Name of the kind of stage, for clients.
    """

    type: EventType
    content: str = ""
    metadata: dict[str, Any] = {}
    progress: float | None = None
    timestamp: str = ""
    stage: str = ""
    node: str = ""

    def as_data(self) -> Data:
        """Return the event for the log of the turn."""
        shown = {"content": "", "progress": 0.0, **msgspec.to_builtins(self)}
        return Data(EVENT, shown)


def thinking(content: str, *, progress: float | None = None, **metadata: Any) -> WorkflowEvent:
    """Return the event that tells what the stage considers."""
    return WorkflowEvent("thinking", content, metadata, progress)


def running(content: str, *, progress: float | None = None, **metadata: Any) -> WorkflowEvent:
    """Return the event that tells what the stage does."""
    return WorkflowEvent("running", content, metadata, progress)


def done(content: str = "", **metadata: Any) -> WorkflowEvent:
    """Return the event that ends the stage. The next stage follows."""
    return WorkflowEvent("done", content, metadata)


def completed(content: str = "", **metadata: Any) -> WorkflowEvent:
    """Return the event that ends the run. No other stage follows."""
    return WorkflowEvent("completed", content, metadata)


def fail(content: str, **metadata: Any) -> WorkflowEvent:
    """Return the event that ends the run as failed."""
    return WorkflowEvent("fail", content, metadata)
