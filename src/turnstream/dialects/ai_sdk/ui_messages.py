"""Stored turns as UI messages, which a page shows before it follows the newest answer.

The messages have the same ids and parts as in a client that has read the streams of these turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from turnstream.core.blocks import Block, Content
from turnstream.core.turn_events import ApprovalResponse, Data, Source

Part: TypeAlias = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class ShownTurn(NamedTuple):
    """An ended turn.

    Attributes:
        metadata: Metadata of the message, in the AI SDK's spelling.
        events: The application's own events of the turn.
        approvals: The answers to approvals, by the id of the call.
    """

    turn_id: str
    role: str
    blocks: Sequence[Block]
    metadata: Mapping[str, Any] = {}
    events: Sequence[Data | Source] = ()
    approvals: Mapping[str, ApprovalResponse] = {}


class MessageBuilder:
    """Builds the messages of a chat, from its turns in order. `add` returns each message that is complete."""

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._parts: list[Part] = []
        self._calls: dict[str, Part] = {}

    def add(self, turn: ShownTurn) -> list[dict[str, Any]]:
        """Add a turn, and return the messages that it completes."""
        if turn.role == "user":
            if self._message is not None and _is_of_client_tools(turn):
                for block in turn.blocks:
                    self._add_result(block.content or {}, {})
                return []
            parts = [part for block in turn.blocks if (part := _shown(block)) is not None]
            return [*self.end(), {"id": turn.turn_id, "role": "user", "parts": parts}]
        if self._message is None:
            self._message = {"id": turn.turn_id, "role": "assistant", "metadata": {}, "parts": self._parts}
        self._message["metadata"] = {**self._message["metadata"], **turn.metadata}
        self._add_blocks(turn)
        return []

    def end(self) -> list[dict[str, Any]]:
        """Return the message of the assistant that has begun, if it has parts."""
        message, self._message = self._message, None
        parts, self._parts, self._calls = self._parts, [], {}
        return [message] if message is not None and parts else []

    def _add_blocks(self, turn: ShownTurn) -> None:
        is_open = False
        for block in turn.blocks:
            content = block.content or {}
            if block.block_type == "tool_result":
                self._add_result(content, turn.approvals)
                is_open = is_open and bool(content.get("provider_executed"))
                continue
            if not is_open:
                self._parts.append({"type": "step-start"})
                is_open = True
            if block.block_type == "tool_use":
                self._add_call(block, content, turn.approvals)
            elif (part := _shown(block)) is not None:
                self._parts.append(part)
            self._parts.extend(_sources(turn.turn_id, block))
        self._parts.extend(map(_own_part, turn.events))

    def _add_call(self, block: Block, content: Content, approvals: Mapping[str, ApprovalResponse]) -> None:
        call_id = str(content.get("tool_use_id") or "")
        part: Part = {"type": f"tool-{content.get('tool_name') or 'unknown'}", "toolCallId": call_id}
        if content.get("provider_executed"):
            part["providerExecuted"] = True
        if block.partial or content.get("input") is None:
            reason = "the call was cut off" if block.partial else content.get("input_error", "no valid input")
            text = content.get("input_json")
            part |= {"state": "output-error", "input": text, "rawInput": text, "errorText": reason}
        else:
            part |= {"state": "input-available", "input": content["input"]}
        if (answer := approvals.get(call_id)) is not None:
            reasoned = {"reason": answer.reason} if answer.reason is not None else {}
            part["approval"] = {"id": answer.approval_id, "approved": answer.approved, **reasoned}
        self._calls[call_id] = part
        self._parts.append(part)

    def _add_result(self, content: Content, approvals: Mapping[str, ApprovalResponse]) -> None:
        call_id = str(content.get("tool_use_id") or "")
        part = self._calls.get(call_id)
        if part is None:
            name = content.get("tool_name") or "unknown"
            part = self._calls[call_id] = {"type": f"tool-{name}", "toolCallId": call_id, "input": {}}
            self._parts.append(part)
        answer, output = approvals.get(call_id), content.get("content")
        if answer is not None and not answer.approved:
            part["state"] = "output-denied"
        elif content.get("is_error"):
            text = output if isinstance(output, str) else _encode(output).decode()
            part |= {"state": "output-error", "errorText": text}
        else:
            part |= {"state": "output-available", "output": output}


def _is_of_client_tools(turn: ShownTurn) -> bool:
    return bool(turn.blocks) and all(block.block_type == "tool_result" for block in turn.blocks)


def _shown(block: Block) -> Part | None:
    """Return the part of a block that is not a call or a result, or None."""
    content = block.content or {}
    match block.block_type:
        case "text":
            return {"type": "text", "text": block.text_content or "", "state": "done"}
        case "thinking":
            return {"type": "reasoning", "text": block.text_content or "", "state": "done"}
        case "image" | "document":
            default = "image/png" if block.block_type == "image" else "text/plain"
            media_type = content.get("media_type") or default
            data, url = content.get("data"), content.get("url")
            address = f"data:{media_type};base64,{data}" if isinstance(data, str) else url
            titled = {"filename": content["title"]} if content.get("title") else {}
            return {"type": "file", "url": address, "mediaType": media_type, **titled} if address else None
        case _:
            return None


def _sources(turn_id: str, block: Block) -> list[Part]:
    """Return the sources that a block cites."""
    found: Any = (block.content or {}).get("citations")
    parts: list[Part] = []
    for number, citation in enumerate(cast("list[Any]", found) if isinstance(found, list) else []):
        if isinstance(citation, dict):
            cited = cast("dict[str, Any]", citation)
            url = cited.get("url") or cited.get("uri")
            if isinstance(url, str) and url:
                title = cited.get("title")
                parts.append(_own_part(Source(f"{turn_id}-{block.sequence}-{number}", url, title)))
    return parts


def _own_part(event: Data | Source) -> Part:
    if isinstance(event, Data):
        return {"type": f"data-{event.name}", "data": event.data}
    titled = {"title": event.title} if isinstance(event.title, str) else {}
    if event.url is not None:
        return {"type": "source-url", "sourceId": event.source_id, "url": event.url, **titled}
    document = {"mediaType": event.media_type or "text/plain", "title": event.title or event.source_id}
    return {"type": "source-document", "sourceId": event.source_id, **document}
