"""Input items of Responses as our messages: the inverse of `openai_responses_input`."""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Block, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.openai_responses.input import ERROR_MARK, Role
from turnstream.wires.openai_responses.items import KEY, call_content, image_of, metadata_of, result_content
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, is_one_of
from turnstream.wires.shared.lenient_json import encode_json

_CALLS = frozenset(
    {"function_call", "custom_tool_call", "mcp_call", "code_interpreter_call", "file_search_call"}
)
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def parse_input(raw: Any) -> tuple[str | None, tuple[Message, ...]]:
    """System text and history. What a side says in several items becomes one message. Raises InvalidRequest."""
    items = [{"role": "user", "content": raw}] if isinstance(raw, str) else raw
    if not is_list(items):
        raise InvalidRequest("input is neither text nor a list")
    system: list[str] = []
    sides: list[tuple[Role, list[Block]]] = []
    for item in items:
        if not is_object(item):
            raise InvalidRequest("an input item is not an object")
        if item.get("role") in ("system", "developer"):
            system.append("".join(block.text_content or "" for block in _parse_content(item)))
            continue
        side, found = _parse_item(item)
        if not sides or sides[-1][0] != side:
            sides.append((side, []))
        sides[-1][1].extend(found)
    messages = tuple(
        Message(side, tuple(Block(n, b.block_type, b.text_content, b.content) for n, b in enumerate(blocks)))
        for side, blocks in sides
    )
    return "\n\n".join(system) or None, messages


def _parse_item(item: JsonObject) -> tuple[Role, list[Block]]:
    kind = item.get("type")
    role = item.get("role")
    if role in ("user", "assistant"):
        return role, _parse_content(item)
    if role is not None or kind in (None, "message"):
        raise InvalidRequest(f"a message's role is {role!r}")
    if kind == "reasoning":
        return "assistant", parse_reasoning(item)
    if is_one_of(kind, _CALLS):
        return "assistant", parse_call(item)
    if is_one_of(kind, _RESULTS):
        return "user", [_parse_result(item)]
    if (image := image_of(item)) is not None:
        return "assistant", [Block(0, "image", None, image)]
    side: Role = "user" if str(kind).endswith(("_output", "_response")) else "assistant"
    return side, [Block(0, "provider", None, item)]


def parse_reasoning(item: JsonObject) -> list[Block]:
    """The thinking blocks of a reasoning item that a caller sent; what it has beside its parts is kept on each."""
    kept = metadata_of(item, exact=True)
    blocks: list[Block] = []
    for field in ("summary", "content"):
        parts = item.get(field)
        for part in parts if is_list(parts) else []:
            text = part.get("text") if is_object(part) else None
            if not isinstance(text, str):
                raise InvalidRequest("a part of a reasoning item has no text")
            mark = {"part": "reasoning_text"} if field == "content" else {}
            own = {**kept["provider_metadata"][KEY], **mark}
            blocks.append(Block(0, "thinking", text, {"provider_metadata": {KEY: own}}))
    return blocks or [Block(0, "thinking", "", kept)]


def parse_call(item: JsonObject) -> list[Block]:
    """A call that a caller sent, with its result where the provider ran it."""
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
    identity = item.get("call_id")
    if not isinstance(identity, str):
        raise InvalidRequest("call_id is not a string")
    output = item.get("output")
    failed = isinstance(output, str) and output.startswith(ERROR_MARK)
    said = output.removeprefix(ERROR_MARK) if isinstance(output, str) else output
    kept = {key: value for key, value in item.items() if key not in ("type", "call_id", "output")}
    content: Content = {"tool_use_id": identity, "content": said, "is_error": failed}
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
    if not is_object(part):
        raise InvalidRequest("a content part is not an object")
    text = part.get("text", part.get("refusal"))
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            if not isinstance(text, str):
                raise InvalidRequest("a text part has no text")
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
    """The content of an image or document block: the data that a `data:` URL holds, or the URL."""
    head, comma, data = url.partition(";base64,")
    inline = bool(comma) and head.startswith("data:")
    content: Content = {"media_type": head.removeprefix("data:"), "data": data} if inline else {"url": url}
    if isinstance(title := part.get("filename"), str) and title:
        content["title"] = title
    rest = {key: value for key, value in part.items() if key not in ("type", field, "filename")}
    if rest:
        content["provider_metadata"] = {KEY: {"type": str(part["type"]), **rest}}
    return content
