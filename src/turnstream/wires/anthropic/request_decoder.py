"""Decodes requests to Anthropic Messages into ModelRequests. The inverse of `requests`."""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Block, Message
from turnstream.errors import InvalidRequest
from turnstream.wires.anthropic.blocks import RawBlock, parse_block
from turnstream.wires.anthropic.cache import take_cache_marks
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import expect, expect_objects, read_body

_MAPPED_FIELDS = (
    "model", "messages", "system", "tools", "tool_choice", "stop_sequences", "stream", "thinking",
    "output_config",
)  # fmt: skip


def decode_request(_path: str, body: bytes) -> ModelRequest:
    """Return the request in `body`. Raises InvalidRequest if the body is invalid.

    System blocks are joined to one text. Tools without an input schema (the provider's own) stay in
    `params["tools"]`.
    """
    fields = read_body(body)
    try:
        return _parse_request(fields)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _parse_request(fields: JsonObject) -> ModelRequest:
    params = without(fields, *_MAPPED_FIELDS)
    if unmarked := take_cache_marks(fields):
        fields = unmarked
        params["cache"] = True
    if fields.get("stop_sequences"):
        params["stop"] = fields["stop_sequences"]
    output = expect(fields.get("output_config") or {}, dict, "output_config")
    params |= _parse_thinking(expect(fields.get("thinking") or {}, dict, "thinking"), output)
    params |= _parse_output(output, params)
    if (choice := fields.get("tool_choice")) is not None:
        params |= _parse_tool_choice(expect(choice, dict, "tool_choice"))
    tools, others = split_tools(fields.get("tools"), schema="input_schema", types=("custom", None))
    if others:
        params["tools"] = [expect(tool, dict, "a tool") for tool in others]
    messages = expect_objects(fields.get("messages"), "messages", "a message")
    said = [fields.get("system"), *(_said(message) for message in messages if _is_system(message))]
    return ModelRequest(
        model=expect(fields.get("model"), str, "model"),
        messages=tuple(_parse_message(message) for message in messages if not _is_system(message)),
        system="\n\n".join(text for text in map(_parse_system, said) if text) or None,
        tools=tools,
        params=params,
        stream=fields.get("stream") is True,
    )


def _is_system(message: JsonObject) -> bool:
    """Return True for a system prompt among the messages. It belongs to the prompt of the request."""
    return message.get("role") == "system"


def _said(message: JsonObject) -> str | list[Any]:
    content = message.get("content")
    return content if isinstance(content, str) else expect(content, list, "content")


def _parse_message(message: JsonObject) -> Message:
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise InvalidRequest("a message's role is user, assistant or system")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    blocks = enumerate(expect_objects(content, "content", "a block"))
    return Message(role, tuple(_parse_content(n, block) for n, block in blocks))


def _parse_content(sequence: int, raw: RawBlock) -> Block:
    parsed = parse_block(raw)
    content = dict(parsed.content or {})
    if parsed.block_type == "tool_use":
        content = {**content, "input": content.get("input", {}), "input_json": parsed.text}
        if not parsed.text and content["input"]:
            content["input_json"] = encode_json(content["input"]).decode()
        return Block(sequence, "tool_use", None, content)
    if parsed.signature:
        content["signature"] = parsed.signature
    text = parsed.text if parsed.block_type in ("text", "thinking") else None
    return Block(sequence, parsed.block_type, text, content or None)


def _parse_system(system: Any) -> str | None:
    if system is None or isinstance(system, str):
        return system
    blocks = expect_objects(system, "system", "a system block")
    return "\n\n".join(expect(block.get("text"), str, "a system block's text") for block in blocks)


def _parse_thinking(thinking: JsonObject, output: JsonObject) -> JsonObject:
    match thinking:
        case {"type": "enabled"}:
            return {"thinking": without(thinking, "type")}
        case {"type": "adaptive"} if isinstance(effort := output.get("effort"), str):
            return {"thinking": {**without(thinking, "type"), "effort": effort}}
        case _:
            return {"thinking": thinking} if thinking else {}


def _parse_output(output: JsonObject, params: JsonObject) -> JsonObject:
    """Return the params for `output_config`: the response format, and the fields without an equivalent."""
    rest = dict(output)
    found: JsonObject = {}
    if "effort" in params.get("thinking", {}):
        rest.pop("effort", None)
    format_value = rest.get("format")
    if (
        is_object(format_value)
        and format_value.keys() == {"type", "schema"}
        and format_value["type"] == "json_schema"
    ):
        found["response_format"] = format_value
        del rest["format"]
    return {**found, "output_config": rest} if rest else found


def _parse_tool_choice(choice: JsonObject) -> JsonObject:
    rest = without(choice, "disable_parallel_tool_use")
    one_by_one = choice.get("disable_parallel_tool_use") is True
    found: JsonObject = {"parallel_tool_calls": False} if one_by_one else {}
    match rest:
        case {"type": "auto"} if len(rest) == 1 and one_by_one:
            return found
        case {"type": "auto" | "none" as kind} if len(rest) == 1:
            return {**found, "tool_choice": kind}
        case {"type": "any"} if len(rest) == 1:
            return {**found, "tool_choice": "required"}
        case {"type": "tool", "name": name} if len(rest) == 2:
            return {**found, "tool_choice": {"name": name}}
        case _:
            return {"tool_choice": choice}
