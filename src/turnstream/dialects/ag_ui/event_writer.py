"""The AG-UI events of a run, written one TurnEvent at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from turnstream.core.blocks import BlockType, Content
from turnstream.core.open_block import merge_content
from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    BlockCatchup,
    BlockDelta,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    StepStart,
    StepStop,
    Terminal,
    ToolProgress,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
    UserRedacted,
)
from turnstream.dialects.ag_ui.json_patch import is_patch
from turnstream.dialects.ag_ui.messages import (
    RunIds,
    call_facts,
    encrypted_value,
    result_facts,
    result_text,
    tool_name,
)
from turnstream.dialects.ag_ui.run_state import ShownRun, StreamedBlock

RunEvent: TypeAlias = dict[str, Any]

PROTOCOL_VERSION = "1.0"
APPROVAL_SCHEMA: Content = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approved"],
}
"""JSON Schema of the answer to an interrupt."""

_DELTAS: Mapping[str, tuple[str, str]] = {
    "text": ("TEXT_MESSAGE_CONTENT", "messageId"),
    "thinking": ("REASONING_MESSAGE_CONTENT", "messageId"),
    "tool_use": ("TOOL_CALL_ARGS", "toolCallId"),
}
LARGEST_EVENT = 8 * 1024 * 1024
"""Bytes of an event. Clients read frames of 10 MiB."""
LONGEST_DELTA = 1024 * 1024
"""Characters of a delta. JSON may need six bytes for one."""

_encode = msgspec.json.Encoder().encode


class RunFacts(msgspec.Struct, frozen=True):
    """The facts of a run that its client gave.

    Attributes:
        knows_cancelled: The client knows the outcome "cancelled", which came with version 1.0.
    """

    thread_id: str
    run_id: str
    knows_cancelled: bool = True


def event_frame(event: Mapping[str, Any]) -> bytes:
    """Return the frame of one AG-UI event."""
    return b"data: %b\n\n" % _encode(event)


def delta_frames(head: bytes, text: str) -> bytes:
    """Return the frames of a text, most often one. `head`: the bytes of a frame before the text."""
    if len(text) <= LONGEST_DELTA:
        return b"%b%b}\n\n" % (head, _encode(text))
    places = range(0, len(text), LONGEST_DELTA)
    return b"".join(delta_frames(head, text[place : place + LONGEST_DELTA]) for place in places)


class RunWriter:
    """Writes the events of one TurnEvent that is not a plain delta."""

    def __init__(self, state: ShownRun, ids: RunIds, facts: RunFacts) -> None:
        self.frames: list[bytes] = []
        self.state = state
        self._ids = ids
        self._facts = facts

    def write(self, event: TurnEvent) -> None:
        match event:
            case TurnStart():
                self.begin()
            case StepStart():
                self._close_step()
                self._set(step=event.name or f"step-{event.step}")
                self.add("STEP_STARTED", stepName=self.state.step)
            case StepStop():
                self._close_step()
            case BlockStart():
                self.open_block(event.block_index, event.block_type, event.content or {})
            case BlockDelta():
                self._grow(event)
            case BlockStop():
                self._close_block()
            case BlockCatchup():
                self._catch_up(event)
            case ApprovalRequest():
                self._set(approvals=(*self.state.approvals, event))
            case ApprovalResponse():
                left = tuple(one for one in self.state.approvals if one.approval_id != event.approval_id)
                self._set(approvals=left)
            case Data():
                self._data(event)
            case Notice() | Source() | ToolProgress() | UserRedacted():
                self._custom(type(event).__struct_config__.tag, _present(event))
            case TurnComplete() | TurnError() | TurnCancelled():
                self._end(event)
            case _:
                pass  # the run's end has its usage

    def add(self, kind: str, **fields: Any) -> None:
        """Write one AG-UI event. If it is too large for clients, a notice takes its place."""
        frame = event_frame({"type": kind, **fields})
        if len(frame) > LARGEST_EVENT:
            size = f"{kind} of {len(frame):,} bytes left out"
            frame = event_frame(
                {
                    "type": "CUSTOM",
                    "name": "turnstream.notice",
                    "value": {"code": "event_too_large", "message": size},
                }
            )
        self.frames.append(frame)

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def _custom(self, name: object, value: object) -> None:
        self.add("CUSTOM", name=f"turnstream.{name}", value=value)

    # -- run and steps ---------------------------------------------------------------------------------------

    @property
    def _run(self) -> RunEvent:
        return {"threadId": self._facts.thread_id, "runId": self._facts.run_id}

    def begin(self) -> None:
        """Begin the run, unless it has begun."""
        if not self.state.has_begun:
            self.add("RUN_STARTED", **self._run, protocolVersion=PROTOCOL_VERSION)
            self._set(has_begun=True)

    def _close_step(self) -> None:
        if self.state.step is not None:
            self.add("STEP_FINISHED", stepName=self.state.step)
            self._set(step=None)

    # -- blocks ----------------------------------------------------------------------------------------------

    def open_block(self, index: int, block_type: BlockType, content: Content) -> None:
        """Show the start of a block, even if its message was in a snapshot before."""
        if self.state.block is not None:
            self._close_block()
        message_id = self._ids.message(index)
        entity_id = message_id
        match block_type:
            case "text":
                self.add("TEXT_MESSAGE_START", messageId=message_id, role="assistant")
                self._set(parent_id=message_id)
            case "thinking":
                self.add("REASONING_START", messageId=message_id)
                self.add("REASONING_MESSAGE_START", messageId=message_id, role="reasoning")
                self._set(parent_id=None, has_reasoning=True)
            case "tool_use":
                entity_id = self._ids.call(index, content)
                parent_id = self.state.parent_id or message_id
                call = {"toolCallId": entity_id, "toolCallName": tool_name(content)}
                self.add("TOOL_CALL_START", **call, parentMessageId=parent_id, **call_facts(content))
                self._set(parent_id=parent_id, calls=(*self._calls_without(entity_id), entity_id))
            case _:
                pass
        name, field = _DELTAS.get(block_type, ("", ""))
        head = b'data: {"type":"%b","%b":%b,"delta":' % (name.encode(), field.encode(), _encode(entity_id))
        block = StreamedBlock(index, block_type, entity_id, head if name else b"")
        self._set(block=_with_content(block, content), next_index=index + 1)

    def _grow(self, event: BlockDelta) -> None:
        if (block := self.state.block) is None:
            return
        if event.field == "signature":
            self._set(block=replace(block, signature=block.signature + event.value))
        else:
            merged = dict(block.content)
            merge_content(merged, event.value)
            self._set(block=replace(block, content=merged))

    def _catch_up(self, event: BlockCatchup) -> None:
        content = event.content or {}
        block = self.state.block
        if block is None or block.block_index != event.block_index:
            self.open_block(event.block_index, event.block_type, content)
        else:
            self._set(block=_with_content(block, content))
        block = cast(StreamedBlock, self.state.block)
        text = event.input_partial if event.block_type == "tool_use" else event.accumulated_text
        if text and block.delta_head:
            self.frames.append(delta_frames(block.delta_head, text))
        if event.complete:
            self._close_block()

    def _close_block(self) -> None:
        if (block := self.state.block) is None:
            return
        entity_id, content = block.entity_id, block.content
        match block.block_type:
            case "text":
                self.add("TEXT_MESSAGE_END", messageId=entity_id)
            case "thinking":
                self.add("REASONING_MESSAGE_END", messageId=entity_id)
                if sealed := block.signature or encrypted_value(content):
                    kind = {"subtype": "message", "entityId": entity_id}
                    self.add("REASONING_ENCRYPTED_VALUE", **kind, encryptedValue=sealed)
                self.add("REASONING_END", messageId=entity_id)
            case "tool_use":
                self.add("TOOL_CALL_END", toolCallId=entity_id)
            case "tool_result":
                self._result(block)
            case _:
                pass
        self._set(block=None)
        self.show_facts(block.block_index, block.block_type, content)

    def close_block(self) -> None:
        """Show the end of the open block, before a snapshot replaces it."""
        self._close_block()

    def _result(self, block: StreamedBlock) -> None:
        content = block.content
        call_id = self._ids.call(block.block_index, content)
        result = {"toolCallId": call_id, "content": result_text(content), "role": "tool"}
        self.add("TOOL_CALL_RESULT", messageId=block.entity_id, **result, **result_facts(content))
        left = tuple(one for one in self.state.approvals if one.tool_use_id != call_id)
        self._set(parent_id=None, calls=self._calls_without(call_id), approvals=left)

    def _calls_without(self, call_id: str) -> tuple[str, ...]:
        return tuple(one for one in self.state.calls if one != call_id)

    def show_facts(self, index: int, block_type: BlockType, content: Content) -> None:
        """Show the parts of a finished block that have no place in a message: files and citations."""
        if block_type in ("image", "document"):
            facts = {name: value for name, value in content.items() if name in ("media_type", "url", "title")}
            self._custom(block_type, {"turn_id": self._ids.turn_id, "block_index": index, **facts})
        elif citations := content.get("citations"):
            self._custom("citations", {"messageId": self._ids.message(index), "citations": citations})

    # -- data ------------------------------------------------------------------------------------------------

    def _data(self, event: Data) -> None:
        if event.transient:
            self.add("CUSTOM", name=event.name or "data", value=event.data)
        elif event.name == "state":
            self.add("STATE_SNAPSHOT", snapshot=event.data)
        elif event.name == "state_delta" and is_patch(event.data):
            self.add("STATE_DELTA", delta=event.data)
        else:
            path = "/" + event.name.replace("~", "~0").replace("/", "~1")
            self.add("STATE_DELTA", delta=[{"op": "add", "path": path, "value": event.data}])

    # -- ends ------------------------------------------------------------------------------------------------

    def wait(self) -> None:
        """End the run of a turn that waits for approvals."""
        interrupts = [
            {
                "id": asked.approval_id,
                "reason": "tool_call",
                "message": f"{asked.tool_name} asks for an approval",
                "toolCallId": asked.tool_use_id,
                "responseSchema": APPROVAL_SCHEMA,
                "expiresAt": asked.expires_at,
            }
            for asked in self.state.approvals
        ]
        self._finish({"type": "interrupt", "interrupts": interrupts})

    def _end(self, event: Terminal) -> None:
        usage = _usage(event)
        if isinstance(event, TurnError):
            self.fail(event.error, event.code, **usage)
        elif isinstance(event, TurnComplete):
            pending = {"pendingToolCallIds": [*self.state.calls]} if self.state.calls else {}
            reason = {} if event.stop_reason is None else {"stopReason": event.stop_reason}
            result = {"result": {"turnId": self._ids.turn_id, **reason}}
            self._finish({"type": "success", **pending}, **result, **usage)
        elif self._facts.knows_cancelled:
            self._finish({"type": "cancelled"}, **usage)
        else:
            self.fail("the run was stopped", "cancelled", **usage)

    def _finish(self, outcome: RunEvent, **fields: Any) -> None:
        self.begin()
        self._close_block()
        self._close_step()
        self.add("RUN_FINISHED", **self._run, outcome=outcome, **fields)
        self.state = ShownRun(has_begun=True, is_over=True)

    def fail(self, message: str, code: str, **usage: Any) -> None:
        """End the run with an error. Open messages are closed first, so that clients keep their text."""
        self._close_block()
        self._close_step()
        self.add("RUN_ERROR", message=message or code, code=code, **usage)
        self.state = ShownRun(has_begun=True, is_over=True)


def _with_content(block: StreamedBlock, content: Content) -> StreamedBlock:
    """Return a block with its whole content, which may hold the signature so far."""
    rest = {name: value for name, value in content.items() if name != "signature"}
    return replace(block, content=rest, signature=str(content.get("signature") or ""))


def _present(event: msgspec.Struct) -> RunEvent:
    """Return an event's fields that have a value."""
    return {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}


def _usage(event: Terminal) -> RunEvent:
    """Return the tokens of a turn in AG-UI's spelling, as fields of the last event."""
    if (usage := event.usage) is None:
        return {}
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    given = {name: count for name, count in counts.items() if count is not None}
    return {"usage": [given]} if given else {}
