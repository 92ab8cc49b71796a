"""The chunks of a UI message stream, written one event at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from turnstream.core.blocks import BlockType, Content
from turnstream.core.open_block import TextChain, merge_content
from turnstream.core.tool_input import finish_tool_use
from turnstream.core.turn_events import (
    ApprovalRequest,
    ApprovalResponse,
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    StepStart,
    Terminal,
    ToolProgress,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
    UsageReport,
    UserRedacted,
)
from turnstream.dialects.ai_sdk.message_metadata import account_of, finish_reason
from turnstream.dialects.ai_sdk.stream_state import ShownBlock, StreamState
from turnstream.dialects.repetition import RETRACTED

Major: TypeAlias = Literal[5, 6, 7]
"""Major version of the `ai` package that reads the stream."""
Chunk: TypeAlias = dict[str, Any]

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def chunk_frame(chunk: Mapping[str, Any]) -> bytes:
    """Return the frame of one chunk."""
    return b"data: %b\n\n" % _encode(chunk)


class ChunkWriter:
    """Writes the chunks of one event that is not a plain delta."""

    def __init__(
        self, state: StreamState, turn_id: str, message_id: str, major: Major, *, ends: bool
    ) -> None:
        self.frames: list[bytes] = []
        self.state = state
        self._seq = 0
        self._turn_id = turn_id
        self._message_id = message_id
        self._major = major
        self._ends = ends

    def write(self, seq: int, event: TurnEvent) -> None:
        """Write the event numbered `seq`."""
        self._seq = seq
        if self._is_unwanted(event):
            return
        match event:
            case TurnStart():
                self._begin(event)
            case StepStart():
                self._open_step()
            case BlockStart():
                self._open_block(event.block_index, event.block_type, event.content or {})
            case BlockDelta():
                self._merge(event.value)
            case BlockStop():
                self._close_block(partial=event.partial)
            case BlockCatchup():
                self._catch_up(event)
            case BlockReset():
                self._retract(event.block_index)
            case Notice(code="truncated"):
                self._retract(event.block_index or 0)
            case TurnComplete() | TurnError() | TurnCancelled():
                self._end(event)
            case _:
                self._write_other(event)

    def _write_other(self, event: TurnEvent) -> None:
        match event:
            case Notice():
                self._add({"type": "data-notice", "data": _present(event), "transient": True})
            case UserRedacted():
                self._add({"type": "data-user-redacted", "data": _present(event), "transient": True})
            case ToolProgress() if event.tool_use_id in self.state.calls:
                output = {"toolCallId": event.tool_use_id, "output": event.text, "preliminary": True}
                self._add({"type": "tool-output-available", **output})
            case UsageReport():
                self._add({"type": "message-metadata", "messageMetadata": account_of(event)})
            case Source():
                self._source(event)
                self._set(has_other_parts=True)
            case Data():
                self._data(event)
            case ApprovalRequest() if self._major > 5:
                asked = {"approvalId": event.approval_id, "toolCallId": event.tool_use_id}
                self._add({"type": "tool-approval-request", **asked})
                self._set(asked=self.state.asked | {event.approval_id})
            case ApprovalResponse() if self._major > 5:
                self._answered(event)
            case _:
                pass  # a step's end shows when the next step begins, or the turn ends

    def _is_unwanted(self, event: TurnEvent) -> bool:
        """Return True if the client has the content of the event, or will get it from the turn's events."""
        state = self.state
        if state.is_lost or not state.is_replay:
            return state.is_lost and not isinstance(event, TurnStart)
        match event:
            case BlockStart() | BlockDelta() | BlockStop() | BlockCatchup():
                return state.step_first is not None and event.block_index < state.step_first
            case TurnStart() | BlockReset() | Notice(code="truncated"):
                return False
            case _:
                return self._seq <= state.step_seq

    def _add(self, chunk: Chunk) -> None:
        self.frames.append(chunk_frame(chunk))

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    # -- message and steps -----------------------------------------------------------------------------------

    def _begin(self, event: TurnStart) -> None:
        if self.state.is_lost:
            self._set(is_lost=False, is_replay=True)
            return
        if self.state.has_begun:
            self._set(block=None, next_index=0, step_first=None, is_replay=False)
            return
        metadata = {"turnId": self._turn_id, "chatId": event.chat_id, "createdAt": event.timestamp}
        if event.model is not None:
            metadata["model"] = event.model
        self._add({"type": "start", "messageId": self._message_id, "messageMetadata": metadata})
        self._set(has_begun=True)

    def _open_step(self) -> None:
        self._close_step()
        self._add({"type": "start-step"})
        self._set(
            in_step=True,
            has_results=False,
            step_seq=self._seq,
            step_first=None,
            has_other_parts=False,
            is_replay=False,
        )

    def _close_step(self) -> None:
        if self.state.block is not None:
            self._close_block(partial=True)
        if self.state.in_step:
            self._add({"type": "finish-step"})
            self._set(in_step=False)

    def _retract(self, index: int) -> None:
        """Retract the blocks from `index` on, or end the stream if the client cannot retract them.

        The client drops all parts of the step. The parts that are kept are shown again in a replay.
        """
        state, first = self.state, self.state.step_first
        if index >= state.next_index:
            return
        if self._major != 7 or not state.in_step or first is None or index < first:
            self._fail(RETRACTED.error, RETRACTED.code)
            return
        self._add({"type": "reset-step"})
        is_lost = index > first or state.has_other_parts
        self._set(block=None, next_index=first, has_results=False, has_other_parts=False, is_lost=is_lost)

    # -- blocks ----------------------------------------------------------------------------------------------

    def _open_block(self, index: int, block_type: BlockType, content: Content) -> None:
        state = self.state
        if block_type != "tool_result" and (not state.in_step or state.has_results):
            self._open_step()
        part_id = f"{self._turn_id}-{index}"
        delta_head = b""
        text = None
        call = {"toolCallId": content.get("tool_use_id", ""), "toolName": content.get("tool_name", "")}
        if block_type in ("text", "thinking"):
            name = "text" if block_type == "text" else "reasoning"
            self._add({"type": f"{name}-start", "id": part_id})
            delta_head = b'data: {"type":"%b-delta","id":%b,"delta":' % (name.encode(), _encode(part_id))
        elif block_type == "tool_use":
            text = TextChain("")
            self._set(calls=self.state.calls | {call["toolCallId"]})
            executed = {"providerExecuted": True} if content.get("provider_executed") else {}
            self._add({"type": "tool-input-start", **call, **executed})
            delta_head = b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":' % _encode(
                call["toolCallId"]
            )
        self._set(
            block=ShownBlock(index, block_type, part_id, delta_head, dict(content), text),
            next_index=index + 1,
            step_first=index if self.state.step_first is None else self.state.step_first,
        )
        self._cite()

    def _merge(self, content: Content) -> None:
        if (block := self.state.block) is None:
            return
        merged = dict(block.content)
        merge_content(merged, content)
        self._set(block=replace(block, content=merged))
        self._cite()

    def _catch_up(self, event: BlockCatchup) -> None:
        content = event.content or {}
        block = self.state.block
        if block is None or block.block_index != event.block_index:
            if block is not None:
                self._close_block(partial=True)
            self._open_block(event.block_index, event.block_type, content)
        else:
            self._set(block=replace(block, content=dict(content)))
            self._cite()
        block = cast(ShownBlock, self.state.block)
        text = event.input_partial if event.block_type == "tool_use" else event.accumulated_text
        if text and block.delta_head:
            self.frames.append(b"%b%b}\n\n" % (block.delta_head, _encode(text)))
            if block.text is not None:
                self._set(block=replace(block, text=block.text.plus(text)))
        if event.complete:
            self._close_block(partial=event.partial)

    def _close_block(self, *, partial: bool) -> None:
        block = cast(ShownBlock, self.state.block)
        content = block.content
        match block.block_type:
            case "text":
                self._add({"type": "text-end", "id": block.part_id})
            case "thinking":
                self._add({"type": "reasoning-end", "id": block.part_id})
            case "tool_use":
                self._close_call(block, partial=partial)
            case "tool_result":
                self._result(content)
                if not content.get("provider_executed"):
                    self._set(has_results=True)
            case "image" | "document":
                self._file(block.block_type, content)
            case _:
                pass
        self._set(block=None)

    def _close_call(self, block: ShownBlock, *, partial: bool) -> None:
        text = block.text.text() if block.text is not None else ""
        content = finish_tool_use(block.content, text)
        call: Chunk = {"toolCallId": content["tool_use_id"], "toolName": content["tool_name"]}
        if content.get("provider_executed"):
            call["providerExecuted"] = True
        if partial or content["input"] is None:
            reason = "the call was cut off" if partial else content.get("input_error", "no valid input")
            self._add({"type": "tool-input-error", **call, "input": text, "errorText": reason})
        else:
            self._add({"type": "tool-input-available", **call, "input": content["input"]})

    def _result(self, content: Content) -> None:
        call_id, output = content.get("tool_use_id", ""), content.get("content")
        executed = {"providerExecuted": True} if content.get("provider_executed") else {}
        if call_id not in self.state.calls:  # a reader refuses a result without its call
            name = content.get("tool_name") or "unknown"
            call: Chunk = {"toolCallId": call_id, "toolName": name, "input": {}}
            self._add({"type": "tool-input-available", **call, **executed})
            self._set(calls=self.state.calls | {call_id})
        if call_id in self.state.denied:
            self._add({"type": "tool-output-denied", "toolCallId": call_id})
        elif content.get("is_error"):
            text = output if isinstance(output, str) else _encode(output).decode()
            self._add({"type": "tool-output-error", "toolCallId": call_id, "errorText": text, **executed})
        else:
            self._add({"type": "tool-output-available", "toolCallId": call_id, "output": output, **executed})

    def _answered(self, event: ApprovalResponse) -> None:
        """Show the answer to an approval. A denied call is shown with its result."""
        self._set(asked=self.state.asked - {event.approval_id})
        if not event.approved:
            self._set(denied=self.state.denied | {event.tool_use_id})
        if self._major == 7:
            reason = {"reason": event.reason} if event.reason is not None else {}
            answer = {"approvalId": event.approval_id, "approved": event.approved, **reason}
            self._add({"type": "tool-approval-response", **answer})

    def _file(self, block_type: BlockType, content: Content) -> None:
        media_type = content.get("media_type") or ("image/png" if block_type == "image" else "text/plain")
        if isinstance(data := content.get("data"), str):
            self._add({"type": "file", "url": f"data:{media_type};base64,{data}", "mediaType": media_type})
        elif isinstance(url := content.get("url"), str):
            self._add({"type": "file", "url": url, "mediaType": media_type})

    # -- sources and data ------------------------------------------------------------------------------------

    def _cite(self) -> None:
        """Send the citations of the open block that were not sent yet."""
        block = cast(ShownBlock, self.state.block)
        found = block.content.get("citations")
        citations = cast("list[Any]", found) if isinstance(found, list) else []
        for number, citation in enumerate(citations[block.sources :], block.sources):
            if isinstance(citation, dict):
                cited = cast("dict[str, Any]", citation)
                url = cited.get("url") or cited.get("uri")
                if isinstance(url, str) and url:
                    self._source(Source(f"{block.part_id}-{number}", url, cited.get("title")))
        if len(citations) > block.sources:
            self._set(block=replace(block, sources=len(citations)))

    def _source(self, event: Source) -> None:
        titled = {"title": event.title} if isinstance(event.title, str) else {}
        if event.url is not None:
            self._add({"type": "source-url", "sourceId": event.source_id, "url": event.url, **titled})
            return
        document = {"mediaType": event.media_type or "text/plain", "title": event.title or event.source_id}
        self._add({"type": "source-document", "sourceId": event.source_id, **document})

    def _data(self, event: Data) -> None:
        transient = {"transient": True} if event.transient else {}
        self._add({"type": f"data-{event.name}", "data": event.data, **transient})
        if not event.transient:
            self._set(has_other_parts=True)

    # -- ends ------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """End the stream of a turn that waits for the client. The client continues it with a request."""
        self._close_step()
        self._add({"type": "finish", "finishReason": "tool-calls"})
        self._finish()

    def resume(self) -> None:
        """Begin the stream of a turn whose earlier chunks the client has."""
        self._set(has_begun=True, in_step=False, has_results=False)
        self._add({"type": "start", "messageId": self._message_id})

    def _end(self, event: Terminal) -> None:
        if not self._ends:
            if self.state.block is not None:
                self._close_block(partial=True)
            self._set(asked=frozenset())
            return
        if isinstance(event, TurnError):
            self._add({"type": "message-metadata", "messageMetadata": account_of(event)})
            self._fail(event.error, event.code)
            return
        if not self.state.has_begun:
            self._add({"type": "start", "messageId": self._message_id})
        self._close_step()
        if isinstance(event, TurnCancelled):
            self._add({"type": "message-metadata", "messageMetadata": account_of(event)})
            reason = {"reason": "cancelled"} if self._major > 5 else {}
            self._add({"type": "abort", **reason})
        else:
            reason = finish_reason(event.stop_reason)
            metadata = {**account_of(event), "stopReason": event.stop_reason}
            self._add({"type": "finish", "finishReason": reason, "messageMetadata": metadata})
        self._finish()

    def _fail(self, text: str, code: str) -> None:
        if not self.state.has_begun:
            self._add({"type": "start", "messageId": self._message_id})
        self._add({"type": "message-metadata", "messageMetadata": {"errorCode": code}})
        self._add({"type": "error", "errorText": text})
        self._finish()

    def _finish(self) -> None:
        self.frames.append(DONE)
        self.state = StreamState(has_begun=True, is_over=True)


def _present(event: msgspec.Struct) -> Chunk:
    """Return an event's fields that have a value."""
    return {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}
