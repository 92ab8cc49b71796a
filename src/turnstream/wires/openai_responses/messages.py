"""Converts turnstream's blocks into input items of Responses, and back.

`items` describes the blocks of each item. Blocks with the mark of this wire become the original item again.
Thinking is sent back only if it came from this wire and the API can read it: with its encrypted content, with
its full text, or by its id if the provider stores responses (`keeps`). The result of a failed tool begins
with "Error: ", because the API has no field for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.openai_responses.items import (
    KEY,
    arguments_of,
    call_content,
    call_item,
    citations_of,
    image_of,
    is_raw_item,
    is_refusal,
    metadata_of,
    own_metadata,
    result_content,
    status_of,
)
from turnstream.wires.shared.histories import (
    TEXT_TYPES,
    Role,
    are_parts,
    as_metadata,
    is_clients,
    mark_failure,
    media_in,
    media_url,
    merge_sides,
    read_media_url,
    read_result,
)
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, is_one_of, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import expect

_CALLS = frozenset(
    {"function_call", "custom_tool_call", "mcp_call", "code_interpreter_call", "file_search_call"}
)
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def dump_input(messages: Iterable[Message], *, keeps: bool) -> list[JsonObject]:
    """Return the history as input items. `keeps` is True if the provider stores its responses."""
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
    """Converts blocks into items. Parts of one message or reasoning item are collected until another block
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
            case "tool_result" if is_clients(block, "tool_result"):
                custom = identity in self._custom or kept.get("type") == "custom_tool_call_output"
                self._append(_dump_result(content, block.text_content or "", custom=custom))
            case "image" if kept.get("type") == "image_generation_call" and content.get("data"):
                self._append({**status_of("image_generation_call"), **kept, "result": content["data"]})
            case "provider" if is_raw_item(content) and not block.partial:
                self._append({**status_of(str(content["type"])), **content})
            case _:
                pass

    def flush(self) -> None:
        """Write the collected parts."""
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
        fields = without(kept, "part")
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
    """Return a message item. A message with the mark of this wire is written in full, as the
    original item."""
    if "id" not in kept:
        only = parts[0] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else None
        phase = {"phase": kept["phase"]} if kept.get("phase") else {}
        return {"role": role, "content": parts if only is None else only["text"], **phase}
    whole = [
        {**part, "annotations": part.get("annotations", [])} if "text" in part else part for part in parts
    ]
    fields = without(kept, "logprobs")
    return {"type": "message", "role": role, "status": "completed", "content": whole, **fields}


def _dump_part(role: Role, block: Block) -> JsonObject | None:
    """Return a block as a content part of a message, or None if it is not part of a message."""
    content = block.content or {}
    if block.block_type in TEXT_TYPES:
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
        return _dump_media(block.block_type, content)
    if block.block_type == "provider" and str(content.get("type")).startswith("input_"):
        return content
    return None


def _dump_media(block_type: BlockType, content: Content) -> JsonObject:
    """Return an image or a document as a content part."""
    extra = without(own_metadata(content), "type")
    if block_type == "image":
        return {"type": "input_image", "image_url": media_url(content), **extra}
    title = {"filename": content["title"]} if content.get("title") else {}
    if content.get("url"):
        return {"type": "input_file", "file_url": content["url"], **title, **extra}
    if content.get("text"):
        return {
            "type": "input_text",
            "text": "\n\n".join(filter(None, (content.get("title"), content["text"]))),
        }
    return {"type": "input_file", "filename": "document", **title, "file_data": media_url(content), **extra}


def _call_text(block: Block) -> str:
    """Return a call's arguments as the model wrote them. Arguments that are not an object become an empty
    object, as the API requires. The result explains the error."""
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
    if are_parts(value, "text", "image", "document"):
        output = [_dump_result_part(part) for part in value]
        if all(part["type"] == "input_text" for part in output):
            output = "\n".join(part["text"] for part in output)
    elif is_list(value) and all(
        is_object(part) and str(part.get("type")).startswith("input_") for part in value
    ):
        output = value
    elif not isinstance(output, str):
        output = encode_json(value).decode()
    if isinstance(output, str):
        output = mark_failure(output, content)
    kept = without(own_metadata(content), "type")
    kind = "custom_tool_call_output" if custom else "function_call_output"
    return {"type": kind, "call_id": content.get("tool_use_id", ""), "output": output, **kept}


def _dump_result_part(part: JsonObject) -> JsonObject:
    if part["type"] == "text":
        return {"type": "input_text", "text": str(part.get("text", ""))}
    return _dump_media(part["type"], media_in(part))


def parse_input(raw: Any) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system text and the history. Adjacent items of one side become one message. Raises
    InvalidRequest."""
    items = [{"role": "user", "content": raw}] if isinstance(raw, str) else raw
    if not is_list(items):
        raise InvalidRequest("input is neither text nor a list")
    system: list[str] = []
    entries: list[tuple[Role, list[Block]]] = []
    for item in items:
        if expect(item, dict, "an input item").get("role") in ("system", "developer"):
            system.append("".join(block.text_content or "" for block in _parse_content(item)))
            continue
        entries.append(_parse_item(item))
    return "\n\n".join(system) or None, merge_sides(entries)


def _parse_item(item: JsonObject) -> tuple[Role, list[Block]]:
    kind = item.get("type")
    role = item.get("role")
    if role in ("user", "assistant"):
        return role, _parse_content(item)
    if role is not None or kind in (None, "message"):
        raise InvalidRequest(f"a message's role is {role!r}")
    if kind == "reasoning":
        return "assistant", _parse_reasoning(item)
    if is_one_of(kind, _CALLS):
        return "assistant", _parse_call(item)
    if is_one_of(kind, _RESULTS):
        return "user", [_parse_result(item)]
    if (image := image_of(item)) is not None:
        return "assistant", [Block(0, "image", None, image)]
    side: Role = "user" if str(kind).endswith(("_output", "_response")) else "assistant"
    return side, [Block(0, "provider", None, item)]


def _parse_reasoning(item: JsonObject) -> list[Block]:
    """Return the thinking blocks of a reasoning item from a caller. Each keeps the item's other fields."""
    kept = metadata_of(item, exact=True)
    blocks: list[Block] = []
    for field in ("summary", "content"):
        parts = item.get(field)
        for part in parts if is_list(parts) else []:
            said = part.get("text") if is_object(part) else None
            text = expect(said, str, "the text of a reasoning item's part")
            mark = {"part": "reasoning_text"} if field == "content" else {}
            own = {**kept["provider_metadata"][KEY], **mark}
            blocks.append(Block(0, "thinking", text, {"provider_metadata": {KEY: own}}))
    return blocks or [Block(0, "thinking", "", kept)]


def _parse_call(item: JsonObject) -> list[Block]:
    """Return a call from a caller, and its result if the provider ran it."""
    arguments = item.get("arguments", item.get("input", item.get("code")))
    if arguments is not None and not isinstance(arguments, str):
        arguments = encode_json(arguments).decode()
    if item.get("type") in ("function_call", "custom_tool_call") and not isinstance(item.get("name"), str):
        raise InvalidRequest("a tool call has no name")
    content = finish_tool_use(call_content(item, "", exact=True), arguments or "")
    call = Block(0, "tool_use", None, content)
    result = result_content(item, content["tool_use_id"])
    return [call] if result is None else [call, Block(1, "tool_result", None, result)]


def _parse_result(item: JsonObject) -> Block:
    identity = expect(item.get("call_id"), str, "call_id")
    kept = without(item, "type", "call_id", "output")
    content = read_result(identity, item.get("output"))
    if kept or item["type"] != "function_call_output":
        content["provider_metadata"] = {KEY: {"type": item["type"], **kept}}
    return Block(0, "tool_result", None, content)


def _parse_content(item: JsonObject) -> list[Block]:
    content = item.get("content")
    kept = metadata_of(item, exact=True) if item.get("role") == "assistant" and "id" in item else {}
    if isinstance(content, str):
        return [Block(0, "text", content, kept or None)] if content else []
    if not is_list(content):
        raise InvalidRequest("a message's content is neither text nor a list of parts")
    return [_parse_part(part, kept) for part in content]


def _parse_part(part: Any, kept: Content) -> Block:
    text = expect(part, dict, "a content part").get("text", part.get("refusal"))
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            expect(text, str, "the text of a part")
            annotations = part.get("annotations")
            cited = {"citations": annotations} if is_list(annotations) and annotations else {}
            return Block(0, "text", text, {**cited, **kept} or None)
        case "refusal" if isinstance(text, str):
            metadata = {"refusal": True, **kept.get("provider_metadata", {})}
            return Block(0, "text", text, {"provider_metadata": metadata})
        case "input_image" if isinstance(url := part.get("image_url"), str) and url:
            return Block(0, "image", None, _parse_media(part, url, "image_url"))
        case "input_file" if isinstance(url := part.get("file_url"), str) and url:
            return Block(0, "document", None, _parse_media(part, url, "file_url"))
        case "input_file" if isinstance(data := part.get("file_data"), str) and data:
            return Block(0, "document", None, _parse_media(part, data, "file_data"))
        case _:
            return Block(0, "provider", None, part)


def _parse_media(part: JsonObject, url: str, field: str) -> Content:
    """Return the content of an image or document block: the data of a `data:` URL, or the URL."""
    content = read_media_url(url)
    if isinstance(title := part.get("filename"), str) and title:
        content["title"] = title
    rest = without(part, "type", field, "filename")
    return content | as_metadata({KEY: {"type": str(part["type"]), **rest}} if rest else {})
