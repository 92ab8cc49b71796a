"""Converts turnstream's blocks into chat.completions messages, and back.

One message of turnstream may become several: each tool result is a message of the role `tool`, before the
user's other content. Thinking is not sent back, except a vendor's `reasoning_details`, signed
`thinking_blocks`, signed content parts, and a field that the caller names. The result of a failed tool begins
with "Error: ", because the API has no field for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.openai_chat.thinking_blocks import (
    THINKING_BLOCKS,
    dump_signed_parts,
    dump_thinking_blocks,
    parse_thinking_blocks,
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
    metadata_of,
    read_media_url,
    read_result,
)
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, list_in
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.normal_params import document_text
from turnstream.wires.shared.request_bodies import expect, expect_if_given

REFUSAL: Content = {"provider_metadata": {"refusal": True}}
"""Metadata of a refusal's text."""
_NO_THOUGHT = " "
"""Vendors treat an empty text as a missing one."""


class ReasoningField(NamedTuple):
    """Field for thinking that is sent back: with all messages of the assistant, or only in turns that called
    tools."""

    field: str
    includes_all: bool = False


def dump_messages(messages: Iterable[Message], reasoning: ReasoningField | None = None) -> list[JsonObject]:
    """Return the history as chat.completions messages. `reasoning` names the field for thinking; None sends
    no thinking."""
    dumped: list[JsonObject] = []
    for message in messages:
        if message.role == "assistant":
            dumped.extend(_dump_assistant(message.blocks, reasoning))
        else:
            dumped.extend(_dump_user(message.blocks))
    return (
        dumped if reasoning is None or reasoning.includes_all else _within_tool_turns(dumped, reasoning.field)
    )


def _within_tool_turns(messages: list[JsonObject], field: str) -> list[JsonObject]:
    """Remove thinking, except from calls and from messages between a call and the next user message.

    A vendor that needs thinking back refuses a call without it. A call of another model has no thinking, or
    thinking that this model cannot use, and gets a blank.
    """
    calls = False
    for message in messages:
        if message["role"] == "user":
            calls = False
        elif message["role"] == "assistant":
            calls = calls or "tool_calls" in message
            if "tool_calls" in message:
                message[field] = message[field] or _NO_THOUGHT
            elif not (calls and message[field]):
                del message[field]
    return messages


def parse_messages(raw: Sequence[JsonObject]) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system text and the history. Adjacent messages of one side become one. Raises
    InvalidRequest."""
    system: list[str] = []
    entries: list[tuple[Role, list[Block]]] = []
    for item in raw:
        role = item.get("role")
        if role in ("system", "developer"):
            system.append(_text_of(item.get("content")))
            continue
        entries.append(_parse_message(role, item))
    return "\n\n".join(system) or None, merge_sides(entries)


def _dump_assistant(blocks: Sequence[Block], reasoning: ReasoningField | None) -> list[JsonObject]:
    """Return one message, and another after each run of results: an assistant turn may include its tools'
    results."""
    dumped: list[JsonObject] = []
    gathered: list[Block] = []
    for block in blocks:
        if is_clients(block, "tool_result"):
            dumped.extend(_dump_content(gathered, reasoning))
            gathered = []
            dumped.append(_dump_result(block.content or {}, block.text_content or ""))
        else:
            gathered.append(block)
    return [*dumped, *_dump_content(gathered, reasoning)]


def _dump_content(blocks: Sequence[Block], reasoning: ReasoningField | None) -> list[JsonObject]:
    text = "".join(block.text_content or "" for block in blocks if block.block_type in TEXT_TYPES)
    calls = [
        _dump_call(block.content)
        for block in blocks
        if block.content is not None and is_clients(block, "tool_use")
    ]
    thoughts = [block for block in blocks if block.block_type == "thinking" and not block.partial]
    details = [
        item for block in thoughts for item in list_in(metadata_of(block.content), "reasoning_details")
    ]
    message: JsonObject = {"role": "assistant", "content": text or None}
    if parts := dump_signed_parts(blocks):
        message["content"] = [*parts, {"type": "text", "text": text}] if text else parts
    if details:
        message["reasoning_details"] = details
    if entries := dump_thinking_blocks(blocks):
        message[THINKING_BLOCKS] = entries
    if reasoning is not None:
        message[reasoning.field] = "".join(block.text_content or "" for block in thoughts)
    if calls:
        message["tool_calls"] = calls
    return [message] if text or calls else []


def _dump_user(blocks: Sequence[Block]) -> list[JsonObject]:
    dumped: list[JsonObject] = []
    parts: list[dict[str, Any]] = []
    for block in blocks:
        content = block.content or {}
        if is_clients(block, "tool_result"):
            dumped.append(_dump_result(content, block.text_content or ""))
            parts.extend(_images_of(content.get("content")))
        elif block.block_type in TEXT_TYPES and block.text_content:
            parts.append({"type": "text", "text": block.text_content})
        elif block.block_type == "image":
            parts.append({"type": "image_url", "image_url": {"url": media_url(content)}})
        elif block.block_type == "document":
            parts.append(_dump_document(content))
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*dumped, {"role": "user", "content": parts[0]["text"]}]
    return [*dumped, {"role": "user", "content": parts}] if parts else dumped


_UNTITLED = "document.pdf"
_RETURNED = ("extra_content", "provider_specific_fields")
"""Fields of a call that are sent back: Gemini's thought signatures, from Google and through LiteLLM."""


def _dump_document(content: Content) -> dict[str, Any]:
    """Return text as text, below its title, and other documents as a file. Raises InvalidRequest for a
    document without data."""
    if (text := document_text(content)) is not None:
        return {"type": "text", "text": text}
    if not content.get("data"):
        raise InvalidRequest("this model's API loads no documents: give the document's data instead of a url")
    media_type = content.get("media_type") or "application/pdf"
    data = f"data:{media_type};base64,{content['data']}"
    return {"type": "file", "file": {"filename": content.get("title") or _UNTITLED, "file_data": data}}


def _dump_call(content: Content) -> dict[str, Any]:
    """Return the call as the model made it. Arguments that are not an object become an empty object: vendors
    that parse them would refuse the request, and the result explains the error."""
    given = content.get("input")
    text = content.get("input_json")
    if not is_object(given):
        text = "{}"
    elif not isinstance(text, str) or not text.strip():
        text = encode_json(given).decode()
    function = {"name": content.get("tool_name", ""), "arguments": text}
    call = {"id": content.get("tool_use_id", ""), "type": "function", "function": function}
    metadata = metadata_of(content)
    return {**call, **{field: metadata[field] for field in _RETURNED if field in metadata}}


def _dump_result(content: Content, text: str) -> JsonObject:
    result = mark_failure(_result_text(content.get("content"), text), content)
    return {"role": "tool", "tool_call_id": content.get("tool_use_id", ""), "content": result}


def _result_text(value: Any, text: str) -> str:
    """Return a result as text: the texts of its parts, or the JSON of another value."""
    if value is None or isinstance(value, str):
        return value or text
    if are_parts(value, "text", "image"):
        shown = [str(part.get("text", "")) if part["type"] == "text" else "[image]" for part in value]
        return "\n".join(shown)
    return encode_json(value).decode()


def _images_of(value: Any) -> list[dict[str, Any]]:
    """Return the images of a result. The user's message shows them, because the role `tool` takes
    text only."""
    return [
        {"type": "image_url", "image_url": {"url": media_url(media_in(part))}}
        for part in (value if is_list(value) else ())
        if is_object(part) and part.get("type") == "image"
    ]


def _parse_message(role: Any, raw: JsonObject) -> tuple[Role, list[Block]]:
    match role:
        case "user":
            return "user", _parse_content(raw.get("content"))
        case "assistant":
            return "assistant", _parse_assistant(raw)
        case "tool" | "function":
            return "user", [_parse_result(raw)]
        case _:
            raise InvalidRequest(f"a message's role is {role!r}")


def _parse_assistant(raw: JsonObject) -> list[Block]:
    blocks: list[Block] = []
    details = raw.get("reasoning_details")
    if is_list(details) and details:
        blocks.append(_block("thinking", "", {"provider_metadata": {"reasoning_details": details}}))
    blocks.extend(parse_thinking_blocks(raw.get(THINKING_BLOCKS)))
    blocks.extend(_parse_content(raw.get("content")))
    if isinstance(refusal := raw.get("refusal"), str) and refusal:
        blocks.append(_block("text", refusal, REFUSAL))
    calls = expect_if_given(raw.get("tool_calls"), list, "tool_calls")
    blocks.extend(map(_parse_call, calls))
    if not calls and is_object(legacy := raw.get("function_call")):
        blocks.append(_parse_call({"id": legacy.get("name"), "function": legacy}))
    return blocks


def _parse_content(content: Any) -> list[Block]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [_block("text", content)]
    if not is_list(content):
        raise InvalidRequest("a message's content is neither text nor a list of parts")
    return [block for part in content if (block := _parse_part(part)) is not None]


def _parse_part(part: Any) -> Block | None:
    if isinstance(part, str):
        return _block("text", part)
    match expect(part, dict, "a content part").get("type"):
        case "text" | "input_text" | "output_text":
            return _block("text", expect(part.get("text"), str, "the text of a part"))
        case "refusal":
            return _block("text", str(part.get("refusal", "")), REFUSAL)
        case "image_url":
            return _block("image", None, _parse_image(part.get("image_url")))
        case "file":
            return _block("document", None, _parse_file(part.get("file")))
        case "thinking" | "reasoning":
            return None
        case other:
            raise InvalidRequest(f"content parts of type {other!r} are not supported")


def _parse_image(value: Any) -> Content:
    url = value.get("url") if is_object(value) else value
    if not isinstance(url, str) or not url:
        raise InvalidRequest("an image has no url")
    return read_media_url(url)


def _parse_file(value: Any) -> Content:
    data = value.get("file_data") if is_object(value) else None
    content = read_media_url(data) if isinstance(data, str) else {}
    if "data" not in content:
        raise InvalidRequest("a file needs file_data, as a data: URL")
    title = value.get("filename")
    named = {"title": title} if isinstance(title, str) and title and title != _UNTITLED else {}
    return content | named


def _parse_call(call: Any) -> Block:
    function: Any = None
    if is_object(call):
        function = call.get("function")
        if is_object(custom := call.get("custom")):  # its input is free text
            function = {"name": custom.get("name"), "arguments": custom.get("input")}
    if not is_object(function) or not isinstance(name := function.get("name"), str):
        raise InvalidRequest("a tool call has no function name")
    arguments = function.get("arguments")
    if is_object(arguments):
        arguments = encode_json(arguments).decode()
    text = arguments if isinstance(arguments, str) else ""
    extras = {field: extra for field in _RETURNED if (extra := call.get(field)) is not None}
    content: Content = {**as_metadata(extras), "tool_use_id": str(call.get("id") or ""), "tool_name": name}
    return _block("tool_use", None, finish_tool_use(content, text))


def _parse_result(raw: JsonObject) -> Block:
    text = _text_of(raw.get("content"))
    identity = expect(raw.get("tool_call_id") or raw.get("name") or "", str, "tool_call_id")
    return _block("tool_result", None, read_result(identity, text))


def _text_of(content: Any) -> str:
    return "".join(block.text_content or "" for block in _parse_content(content))


def _block(block_type: BlockType, text: str | None, content: Content | None = None) -> Block:
    return Block(0, block_type, text, content)
