"""Requests to Bedrock's Converse and ConverseStream, in both directions.

The model's name stands in the path. `bedrock_params` has the params, `bedrock_blocks` the content of messages.

Params with `anthropic_version` among them ask for InvokeModelWithResponseStream, whose body is Claude's own request: what
the wire `claude` makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import msgspec

from turnstream.core.blocks import Message
from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition, Wire
from turnstream.wires.bedrock.blocks import parse_block, returned_block, side_of
from turnstream.wires.bedrock.json import text_of, without
from turnstream.wires.bedrock.params import (
    FIELDS,
    OUR_PARAMS,
    dump_additional,
    dump_inference,
    dump_output,
    dump_thinking,
    dump_tool_choice,
    expect,
    is_claude,
    may_cache,
    parse_additional,
    parse_inference,
    parse_output,
    parse_tool_choice,
)
from turnstream.wires.shared.call_ids import WORDS_OF_64, with_fitting_ids
from turnstream.wires.shared.event_stream import CONTENT_TYPE
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.model_paths import model_path
from turnstream.wires.shared.normal_params import read_extra_body, read_tools

CACHE_POINT: JsonObject = {"cachePoint": {"type": "default"}}
INVOCATION = "anthropic_version"
_PATH = re.compile(
    r"/model/(?P<model>.+)/(?P<call>converse|converse-stream|invoke|invoke-with-response-stream)$"
)
_OUR_PARAMS = OUR_PARAMS | {"cache", "extra_body", "system", "tools"}
_OUR_FIELDS = FIELDS | {"messages", "system", "toolConfig"}


def encode_request(request: ModelRequest, claude: Wire) -> HttpRequest:
    """The POST for `request`. Blocks that the API would refuse are left out of the history (`returned_block`). Raises
    InvalidRequest for what this API cannot be asked for."""
    if INVOCATION in request.params:
        return _encode_invocation(request, claude)
    params = {key: value for key, value in request.params.items() if value is not None}
    body: JsonObject = {key: value for key, value in params.items() if key not in _OUR_PARAMS}
    cached = bool(params.get("cache")) and may_cache(request.model)
    body["messages"] = dump_messages(with_fitting_ids(request.messages, WORDS_OF_64))
    if cached and body["messages"]:
        _add_cache_point(body["messages"][-1]["content"])
    if system := _dump_system(request):
        body["system"] = system
        if cached:
            _add_cache_point(system)
    if inference := dump_inference(params):
        body["inferenceConfig"] = inference
    if tools := _dump_tools(request, body["messages"]):
        choice = dump_tool_choice(params.get("tool_choice"))
        body["toolConfig"] = {"tools": tools, **({"toolChoice": choice} if choice else {})}
        if cached and is_claude(request.model):
            _add_cache_point(tools)
    thinking, effort = dump_thinking(request.model, params.get("thinking"))
    if output := dump_output(request.model, params, effort):
        body["outputConfig"] = output
    if additional := dump_additional(request.model, params, thinking):
        body["additionalModelRequestFields"] = additional
    body |= read_extra_body(params)
    call, accepted = ("converse-stream", CONTENT_TYPE) if request.stream else ("converse", "application/json")
    return _post(request.model, call, accepted, body)


def decode_request(path: str, body: bytes, claude: Wire) -> ModelRequest:
    """The request that `body`, sent to `path`, asks for. Raises InvalidRequest.

    System blocks are joined to one text; if some of them are no text, the list is also kept in `params["system"]`, which
    is then what is sent. Tools other than plain functions stay in `params["tools"]`.
    """
    asked = _PATH.search(path.partition("?")[0])
    if asked is None:
        raise InvalidRequest("the path is not like /model/{modelId}/converse-stream")
    model, call = unquote(asked["model"]), asked["call"]
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    fields = expect(value, dict, "the body")
    stream = call.endswith("-stream")
    if call.startswith("invoke"):
        invocation = claude.decode_request(path, encode_json({**fields, "model": model}))
        return msgspec.structs.replace(invocation, stream=stream)
    try:
        return _parse_request(model, fields, stream=stream)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error


def dump_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """Messages whose roles alternate, as the models behind the API demand. A block's kind decides its side where there
    is no choice. No two documents have the same name."""
    dumped: list[JsonObject] = []
    names: set[str] = set()
    for message in messages:
        for block in message.blocks:
            raw, role = returned_block(block), side_of(block, message.role)
            if raw is None or role is None:
                continue
            if "document" in raw and block.block_type == "document":
                raw["document"]["name"] = _unused(raw["document"]["name"], names)
            if not dumped or dumped[-1]["role"] != role:
                dumped.append({"role": role, "content": []})
            dumped[-1]["content"].append(raw)
    return dumped


def parse_message(raw: Any) -> Message:
    """A message. Raises InvalidRequest, or ValueError where a field of a block has another type."""
    message = expect(raw, dict, "a message")
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise InvalidRequest("a message's role is user or assistant")
    blocks = expect(message.get("content"), list, "a message's content")
    return Message(
        role, tuple(parse_block(n, expect(block, dict, "a block")) for n, block in enumerate(blocks))
    )


def _post(model: str, call: str, accepted: str, body: JsonObject) -> HttpRequest:
    headers = {"content-type": "application/json", "accept": accepted}
    return HttpRequest(f"/model/{model_path(model, safe='')}/{call}", headers, encode_mended(body))


def _encode_invocation(request: ModelRequest, claude: Wire) -> HttpRequest:
    """Claude's own request, which names neither the model nor that it streams."""
    fields: JsonObject = msgspec.json.decode(claude.encode_request(request).body)
    body = without(fields, "model", "stream")
    call, accepted = (
        ("invoke-with-response-stream", CONTENT_TYPE) if request.stream else ("invoke", "application/json")
    )
    return _post(request.model, call, accepted, body)


def _dump_system(request: ModelRequest) -> list[JsonObject]:
    given = request.params.get("system")
    if is_list(given):
        return [expect(block, dict, "a block of system") for block in given]
    return [{"text": request.system}] if request.system else []


def _dump_tools(request: ModelRequest, messages: list[JsonObject]) -> list[JsonObject]:
    """The tools. A history with calls needs their tools declared, whether they are offered now or not: there is no way
    to say that the model may call none."""
    called = {
        block["toolUse"]["name"]
        for message in messages
        for block in message["content"]
        if "toolUse" in block and "type" not in block["toolUse"]
    }
    if request.params.get("tool_choice") == "none" and not called:
        return []
    tools = [_dump_tool(tool) for tool in request.tools]
    tools += [tool for tool in read_tools(request.params) if is_object(tool)]
    declared = {spec.get("name") for tool in tools if is_object(spec := tool.get("toolSpec"))}
    return tools + [_dump_tool(ToolDefinition(name)) for name in sorted(called - declared) if name]


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    schema = tool.input_schema or {"type": "object", "properties": {}}
    described = {"description": tool.description} if tool.description else {}
    strict = {"strict": True} if tool.strict else {}
    return {"toolSpec": {"name": tool.name, **described, "inputSchema": {"json": schema}, **strict}}


def _add_cache_point(blocks: list[JsonObject]) -> None:
    if "cachePoint" not in blocks[-1]:
        blocks.append(CACHE_POINT)


def _unused(name: str, used: set[str]) -> str:
    found, number = name, 2
    while found in used:
        found, number = f"{name} {number}", number + 1
    used.add(found)
    return found


def _parse_request(model: str, fields: JsonObject, *, stream: bool) -> ModelRequest:
    params = {key: value for key, value in fields.items() if key not in _OUR_FIELDS}
    messages = expect(fields.get("messages") or [], list, "messages")
    system, others = _parse_system(fields.get("system"))
    if others is not None:
        params["system"] = others
    parse_inference(fields.get("inferenceConfig"), params)
    parse_additional(fields.get("additionalModelRequestFields"), params)
    parse_output(fields.get("outputConfig"), params)
    tools = _parse_tools(fields.get("toolConfig"), params)
    return ModelRequest(model, tuple(map(parse_message, messages)), system, tools, params, stream)


def _parse_system(system: Any) -> tuple[str | None, list[JsonObject] | None]:
    blocks = [expect(block, dict, "a system block") for block in expect(system or [], list, "system")]
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
                description, strict = text_of(rest, "description"), rest.get("strict") is True
                tools.append(ToolDefinition(name, description, schema, strict))
            case _:
                others.append(expect(item, dict, "a tool"))
    if others:
        params["tools"] = others
    if (choice := given.get("toolChoice")) is not None:
        params["tool_choice"] = parse_tool_choice(expect(choice, dict, "toolChoice"))
    return tuple(tools)
