"""Decodes requests to Bedrock's Converse and ConverseStream into ModelRequests. The inverse of `requests`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import msgspec

from turnstream.core.blocks import Message
from turnstream.errors import InvalidRequest
from turnstream.wires.base import ModelRequest, ToolDefinition, Wire
from turnstream.wires.bedrock.blocks import parse_block
from turnstream.wires.bedrock.params import (
    FIELDS,
    parse_additional,
    parse_inference,
    parse_output,
    parse_tool_choice,
)
from turnstream.wires.shared.json_values import JsonObject, is_object, text_in, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import expect, expect_objects, read_body

_PATH = re.compile(
    r"/model/(?P<model>.+)/(?P<call>converse|converse-stream|invoke|invoke-with-response-stream)$"
)


def decode_request(path: str, body: bytes, claude: Wire) -> ModelRequest:
    """Return the request in `body`, which was sent to `path`. Raises InvalidRequest if the body is invalid.

    System blocks are joined to one text. If some of them are not text, the list is also kept in
    `params["system"]`, and is sent instead of the text. Tools other than plain functions stay in
    `params["tools"]`.

    Args:
        claude: The wire that decodes requests to InvokeModel.
    """
    matched = _PATH.search(path.partition("?")[0])
    if matched is None:
        raise InvalidRequest("the path is not like /model/{modelId}/converse-stream")
    model, call = unquote(matched["model"]), matched["call"]
    fields = read_body(body)
    stream = call.endswith("-stream")
    if call.startswith("invoke"):
        invocation = claude.decode_request(path, encode_json({**fields, "model": model}))
        return msgspec.structs.replace(invocation, stream=stream)
    try:
        return _parse_request(model, fields, stream=stream)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error


def _parse_request(model: str, fields: JsonObject, *, stream: bool) -> ModelRequest:
    params = without(fields, "messages", "system", "toolConfig", *FIELDS)
    messages = expect_objects(fields.get("messages") or [], "messages", "a message")
    system, others = _parse_system(fields.get("system"))
    if others is not None:
        params["system"] = others
    parse_inference(fields.get("inferenceConfig"), params)
    parse_additional(fields.get("additionalModelRequestFields"), params)
    parse_output(fields.get("outputConfig"), params)
    tools = _parse_tools(fields.get("toolConfig"), params)
    return ModelRequest(model, tuple(map(_parse_message, messages)), system, tools, params, stream)


def _parse_message(message: JsonObject) -> Message:
    """Return a message. Raises InvalidRequest, or ValueError if a field of a block has the wrong type."""
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise InvalidRequest("a message's role is user or assistant")
    blocks = enumerate(expect_objects(message.get("content"), "a message's content", "a block"))
    return Message(role, tuple(parse_block(n, block) for n, block in blocks))


def _parse_system(system: Any) -> tuple[str | None, list[JsonObject] | None]:
    blocks = expect_objects(system or [], "system", "a system block")
    texts = [expect(block["text"], str, "a system block's text") for block in blocks if "text" in block]
    others = any(block.keys() != {"text"} for block in blocks)
    return "\n\n".join(texts) or None, blocks if others else None


def _parse_tools(config: Any, params: JsonObject) -> tuple[ToolDefinition, ...]:
    given = expect(config or {}, dict, "toolConfig")
    tools: list[ToolDefinition] = []
    others: list[Any] = []
    for item in expect(given.get("tools") or [], list, "tools"):
        match item:
            case {"toolSpec": {"name": str(name), "inputSchema": {"json": schema}, **rest}} if is_object(
                schema
            ) and rest.keys() <= {"description", "strict"}:
                description, strict = text_in(rest, "description"), rest.get("strict") is True
                tools.append(ToolDefinition(name, description, schema, strict))
            case _:
                others.append(expect(item, dict, "a tool"))
    if others:
        params["tools"] = others
    if (choice := given.get("toolChoice")) is not None:
        params["tool_choice"] = parse_tool_choice(expect(choice, dict, "toolChoice"))
    return tuple(tools)
