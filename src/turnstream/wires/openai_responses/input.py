"""Our blocks as input items of Responses, and these as our blocks.

An item becomes the blocks that `openai_responses_items` tells of, and blocks that this wire has marked become the item that
they were. Thinking goes back only where it came from this wire, and where the API can read it: with its encrypted content,
with its full text, or, where the provider `keeps` responses, by its id.
A failed tool's result begins with "Error: ", for want of a field that says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.wires.openai_responses.items import (
    arguments_of,
    call_item,
    citations_of,
    is_raw_item,
    is_refusal,
    own_metadata,
    status_of,
)
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json

Role: TypeAlias = Literal["user", "assistant"]

ERROR_MARK = "Error: "
_TEXT_TYPES = ("text", "reference", "partial_reference")
_CALLS = frozenset(
    {"function_call", "custom_tool_call", "mcp_call", "code_interpreter_call", "file_search_call"}
)
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_PART_FIELDS = frozenset({"type", "text", "refusal", "annotations"})


def dump_input(messages: Iterable[Message], *, keeps: bool) -> list[JsonObject]:
    """The history as input items. `keeps`: the provider has the responses that it gave."""
    writer = _Writer(keeps=keeps)
    for message in messages:
        results = {
            (block.content or {}).get("tool_use_id"): block.content
            for block in message.blocks
            if block.block_type == "tool_result" and (block.content or {}).get("provider_executed")
        }
        for block in message.blocks:
            writer.add(message.role, block, results)
        writer.flush()
    return writer.items


class _Writer:
    """Items, as blocks are added. Parts of one message, or of one reasoning item, are gathered until something else
    comes."""

    def __init__(self, *, keeps: bool) -> None:
        self.items: list[JsonObject] = []
        self._keeps = keeps
        self._role: Role = "user"
        self._kept: JsonObject = {}
        self._parts: list[JsonObject] = []
        self._reasoning: JsonObject | None = None
        self._custom: set[Any] = set()

    def add(self, role: Role, block: Block, results: dict[Any, Content | None]) -> None:
        content = block.content or {}
        kept = own_metadata(content)
        if (part := _dump_part(role, block)) is not None:
            kept = kept if kept.get("type") == "message" else {}
            if role != self._role or not _is_one_message(kept, self._kept) or self._reasoning is not None:
                self.flush()
                self._role, self._kept = role, kept
            self._parts.append(part)
            return
        identity = content.get("tool_use_id")
        match block.block_type:
            case "thinking" if kept.get("type") == "reasoning" and not block.partial:
                self._add_thinking(block.text_content or "", kept)
            case "tool_use" if not content.get("provider_executed") or kept:
                if content.get("free_text") == "input":
                    self._custom.add(identity)
                self._append(call_item(content, _call_text(block), results.get(identity)))
            case "tool_result" if not content.get("provider_executed"):
                custom = identity in self._custom or kept.get("type") == "custom_tool_call_output"
                self._append(_dump_result(content, block.text_content or "", custom=custom))
            case "image" if kept.get("type") == "image_generation_call" and content.get("data"):
                self._append({**status_of("image_generation_call"), **kept, "result": content["data"]})
            case "provider" if is_raw_item(content) and not block.partial:
                self._append({**status_of(str(content["type"])), **content})
            case _:
                pass

    def flush(self) -> None:
        """Write what was gathered."""
        if self._parts:
            self.items.append(_message(self._role, self._parts, self._kept))
        reasoning = self._reasoning
        if reasoning is not None and (
            self._keeps or reasoning.get("encrypted_content") or reasoning.get("content")
        ):
            self.items.append(reasoning)
        self._parts, self._kept, self._reasoning = [], {}, None

    def _append(self, item: JsonObject) -> None:
        self.flush()
        self.items.append(item)

    def _add_thinking(self, text: str, kept: JsonObject) -> None:
        fields = {key: value for key, value in kept.items() if key != "part"}
        mark = "id" if "id" in fields else "encrypted_content"
        gathered = self._reasoning
        if gathered is None or fields.get(mark) is None or gathered.get(mark) != fields[mark]:
            self.flush()
            gathered = self._reasoning = {"type": "reasoning", "summary": []}
        gathered |= fields
        if text:
            name = str(kept.get("part", "summary_text"))
            field = "content" if name == "reasoning_text" else "summary"
            gathered[field] = [*gathered.get(field, ()), {"type": name, "text": text}]


def _is_one_message(kept: JsonObject, other: JsonObject) -> bool:
    """Return True if parts with these marks belong to one message."""
    return all(kept.get(field) == other.get(field) for field in ("id", "phase"))


def _message(role: Role, parts: list[JsonObject], kept: JsonObject) -> JsonObject:
    """A message; one that this wire has marked is written in full, as the item that it was."""
    if "id" not in kept:
        only = parts[0] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else None
        phase = {"phase": kept["phase"]} if kept.get("phase") else {}
        return {"role": role, "content": parts if only is None else only["text"], **phase}
    whole = [
        {**part, "annotations": part.get("annotations", [])} if "text" in part else part for part in parts
    ]
    fields = {key: value for key, value in kept.items() if key != "logprobs"}
    return {"type": "message", "role": role, "status": "completed", "content": whole, **fields}


def _dump_part(role: Role, block: Block) -> JsonObject | None:
    """A block as part of a message, or None where it is none."""
    content = block.content or {}
    if block.block_type in _TEXT_TYPES:
        if not block.text_content:
            return None
        if role == "user":
            return {"type": "input_text", "text": block.text_content}
        if is_refusal(content):
            return {"type": "refusal", "refusal": block.text_content}
        part: JsonObject = {"type": "output_text", "text": block.text_content}
        citations = citations_of(content) if own_metadata(content) else []
        return {**part, "annotations": citations} if citations else part
    if role != "user":
        return None
    if block.block_type in ("image", "document"):
        return dump_media(block.block_type, content)
    if block.block_type == "provider" and str(content.get("type")).startswith("input_"):
        return content
    return None


def dump_media(block_type: BlockType, content: Content) -> JsonObject:
    """An image or a document as a content part."""
    beside = {key: value for key, value in own_metadata(content).items() if key != "type"}
    if block_type == "image":
        return {"type": "input_image", "image_url": _url(content), **beside}
    title = {"filename": content["title"]} if content.get("title") else {}
    if content.get("url"):
        return {"type": "input_file", "file_url": content["url"], **title, **beside}
    if content.get("text"):
        return {
            "type": "input_text",
            "text": "\n\n".join(filter(None, (content.get("title"), content["text"]))),
        }
    return {"type": "input_file", "filename": "document", **title, "file_data": _url(content), **beside}


def _call_text(block: Block) -> str:
    """A call's arguments as the model made them. What is no object goes back as an empty one, as the API reads them;
    the result says what was wrong."""
    content = block.content or {}
    text, given = arguments_of(block), content.get("input")
    if content.get("free_text"):
        return text
    if not is_object(given):
        return "{}"
    return text if text.strip() else encode_json(given).decode()


def _dump_result(content: Content, text: str, *, custom: bool) -> JsonObject:
    value = content.get("content")
    output: Any = text if value is None else value
    if is_list(value) and all(
        is_object(part) and part.get("type") in ("text", "image", "document") for part in value
    ):
        output = [_dump_result_part(part) for part in value]
        if all(part["type"] == "input_text" for part in output):
            output = "\n".join(part["text"] for part in output)
    elif is_list(value) and all(
        is_object(part) and str(part.get("type")).startswith("input_") for part in value
    ):
        output = value
    elif not isinstance(output, str):
        output = encode_json(value).decode()
    if content.get("is_error") and isinstance(output, str) and not output.startswith(ERROR_MARK):
        output = ERROR_MARK + output
    kept = {key: item for key, item in own_metadata(content).items() if key != "type"}
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return {"type": kind, "call_id": content.get("tool_use_id", ""), "output": output, **kept}


def _dump_result_part(part: JsonObject) -> JsonObject:
    if part["type"] == "text":
        return {"type": "input_text", "text": str(part.get("text", ""))}
    source = part.get("source")
    return dump_media(part["type"], source if is_object(source) else part)


def _url(content: Content) -> str:
    return content.get("url") or f"data:{content.get('media_type', '')};base64,{content.get('data', '')}"
