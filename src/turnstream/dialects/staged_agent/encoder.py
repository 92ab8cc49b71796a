"""TurnEvents as the lines of a staged agent (docs/reference/protocols.md).

data: {"type":"stream_chunk","content":"Hello","progress":0.5,"timestamp":"…","stage":"execution",…}

The stream has `data:` lines only. An event of a workflow is shown as it is, and text as numbered chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockStart,
    Data,
    StepStart,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.dialects.repetition import AppendingEncoder, RepetitionEncoder
from turnstream.turnlog.base import DialectEncoder
from turnstream.workflow.events import EVENT

HEARTBEAT = b": keep-alive\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
INTERRUPTED = "the answer was interrupted"

_OPTIONAL = ("stage", "node", "metadata")
"""Fields that are left out if they are empty."""
_encode = msgspec.json.Encoder().encode


class StagedState(msgspec.Struct, frozen=True, gc=False):
    """The state of a stream at a cursor.

    Attributes:
        stage: Name of the stage, or an empty text.
        node: Name of the kind of stage, or an empty text.
        progress: Progress of the run, from 0 to 1.
        timestamp: Time of the last event that has one.
        tail: The bytes of a chunk between its content and its number.
        chunks: Number of chunks so far.
        last_block: Index of the last block that has begun, or -1.
    """

    stage: str = ""
    node: str = ""
    progress: float = 0.0
    timestamp: str = ""
    tail: bytes = b""
    chunks: int = 0
    last_block: int = -1
    has_begun: bool = False
    is_over: bool = False


class StagedAgentEncoder(AppendingEncoder):
    """Encodes the events of one turn.

    Args:
        session_id: The client's id of the session.
        message_id: Number of the answer's message. None: the answer does not belong to a conversation.
    """

    def __init__(self, session_id: str, message_id: int | None) -> None:
        self.name = f"staged agent {message_id} {session_id}"
        begin = {"type": "session_start", "session_id": session_id, "assistant_message_id": message_id}
        self._begin = _line(begin)

    def begin(self) -> StagedState:
        """Return the state before the turn's first event."""
        return StagedState()

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        """Return the lines of one event, and the state after it. See `DialectEncoder.encode`."""
        del seq
        now = cast(StagedState, state)
        if type(event) is BlockDelta:
            if event.field != "text" or event.block_type != "text" or now.is_over:
                return b"", now
            return _chunk(now, event.value)
        return (b"", now) if now.is_over else self._rare(now, event)

    def _rare(self, now: StagedState, event: TurnEvent) -> tuple[bytes, object]:
        match event:
            case TurnStart():
                after = _placed(replace(now, has_begun=True, timestamp=event.timestamp))
                return (b"" if now.has_begun else self._begin), after
            case StepStart() if event.name is not None:
                progress = now.progress if event.progress is None else event.progress
                return b"", _placed(replace(now, stage=event.name, node="", progress=progress))
            case Data(name=name, data=data) if name == EVENT and isinstance(data, dict):
                return _workflow_event(now, cast("dict[str, Any]", data))
            case BlockStart():
                return b"", replace(now, last_block=event.block_index)
            case BlockCatchup():
                now = replace(now, last_block=event.block_index)
                text = event.accumulated_text if event.block_type == "text" else None
                return _chunk(now, text) if text else (b"", now)
            case TurnComplete():
                line = _event("stream_complete", "", replace(now, progress=1.0, stage="completed", node=""))
            case TurnError():
                details = {"error": event.error, "code": event.code}
                line = _event("fail", event.error, replace(now, stage="failed"), details)
            case TurnCancelled():
                line = _line({"type": "interrupted", "content": INTERRUPTED})
            case _:
                return b"", now
        return line, replace(now, is_over=True)


def encoder_of(session_id: str, message_id: int | None) -> DialectEncoder:
    """Return the encoder of a turn. See `StagedAgentEncoder`."""
    return RepetitionEncoder(StagedAgentEncoder(session_id, message_id))


def _chunk(state: StagedState, text: str) -> tuple[bytes, StagedState]:
    line = b'data: {"type":"stream_chunk","content":%b%b%d}}\n\n' % (_encode(text), state.tail, state.chunks)
    return line, replace(state, chunks=state.chunks + 1)


def _placed(state: StagedState) -> StagedState:
    """Return the state with the tail of its chunks."""
    place: dict[str, Any] = {"progress": state.progress, "timestamp": state.timestamp}
    place |= {name: value for name in ("stage", "node") if (value := getattr(state, name))}
    return replace(state, tail=b"," + _encode(place)[1:-1] + b',"metadata":{"index":')


def _workflow_event(state: StagedState, data: Mapping[str, Any]) -> tuple[bytes, StagedState]:
    shown = {name: value for name, value in data.items() if value or name not in _OPTIONAL}
    after = replace(
        state,
        stage=str(data.get("stage") or ""),
        node=str(data.get("node") or ""),
        progress=data.get("progress") or 0.0,
        timestamp=str(data.get("timestamp") or state.timestamp),
    )
    return _line(shown), _placed(after)


def _event(kind: str, content: str, state: StagedState, metadata: dict[str, Any] | None = None) -> bytes:
    event: dict[str, Any] = {
        "type": kind,
        "content": content,
        "progress": state.progress,
        "timestamp": state.timestamp,
        "stage": state.stage,
        "node": state.node,
        "metadata": metadata,
    }
    return _line({name: value for name, value in event.items() if value or name not in _OPTIONAL})


def _line(event: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % _encode(event)
