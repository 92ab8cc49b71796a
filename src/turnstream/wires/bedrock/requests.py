"""Encodes requests to Bedrock's Converse and ConverseStream. `request_decoder` is the inverse.

The path contains the model's name. `params` converts the params, and `blocks` the content of messages.

If the params contain `anthropic_version`, the request goes to InvokeModelWithResponseStream. Its body is
Claude's own request, which the wire `claude` encodes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from turnstream.core.blocks import Message
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition, Wire
from turnstream.wires.bedrock.blocks import returned_block
from turnstream.wires.bedrock.params import (
    MAPPED_PARAMS,
    dump_additional,
    dump_inference,
    dump_output,
    dump_thinking,
    dump_tool_choice,
    is_claude,
    may_cache,
)
from turnstream.wires.shared.call_ids import WORDS_OF_64, with_fitting_ids
from turnstream.wires.shared.event_stream import CONTENT_TYPE
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.histories import alternate_roles, side_of
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, without
from turnstream.wires.shared.lenient_json import encode_repaired
from turnstream.wires.shared.model_paths import model_path
from turnstream.wires.shared.normal_params import given_params, read_extra_body, read_tools
from turnstream.wires.shared.request_bodies import JSON, expect

_CACHE_POINT: JsonObject = {"cachePoint": {"type": "default"}}
_INVOCATION = "anthropic_version"


def encode_request(request: ModelRequest, claude: Wire) -> HttpRequest:
    """Return the POST for `request`.

    Omits blocks of the history that the API would refuse (`returned_block`). Raises InvalidRequest if the API
    does not support the request.
    """
    if _INVOCATION in request.params:
        return _encode_invocation(request, claude)
    params = given_params(request)
    body = without(params, *MAPPED_PARAMS)
    cached = bool(params.get("cache")) and may_cache(request.model)
    body["messages"] = _dump_messages(with_fitting_ids(request.messages, WORDS_OF_64))
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
    return _post(request, "converse-stream" if request.stream else "converse", body)


def _post(request: ModelRequest, call: str, body: JsonObject) -> HttpRequest:
    headers = {"content-type": JSON, "accept": CONTENT_TYPE if request.stream else JSON}
    return HttpRequest(f"/model/{model_path(request.model, safe='')}/{call}", headers, encode_repaired(body))


def _encode_invocation(request: ModelRequest, claude: Wire) -> HttpRequest:
    """Return Claude's own request. Its body contains neither the model nor the field `stream`."""
    fields: JsonObject = msgspec.json.decode(claude.encode_request(request).body)
    call = "invoke-with-response-stream" if request.stream else "invoke"
    return _post(request, call, without(fields, "model", "stream"))


def _dump_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """Return messages whose roles alternate. The models behind the API require that.

    If the API accepts a block from one role only, the block gets that role. Every document has a unique name.
    """
    entries: list[tuple[str, list[JsonObject]]] = []
    names: set[str] = set()
    for message in messages:
        for block in message.blocks:
            raw, role = returned_block(block), side_of(block, message.role)
            if raw is None or role is None:
                continue
            if "document" in raw and block.block_type == "document":
                raw["document"]["name"] = _unused(raw["document"]["name"], names)
            entries.append((role, [raw]))
    return alternate_roles(entries, field="content")


def _dump_system(request: ModelRequest) -> list[JsonObject]:
    given = request.params.get("system")
    if is_list(given):
        return [expect(block, dict, "a block of system") for block in given]
    return [{"text": request.system}] if request.system else []


def _dump_tools(request: ModelRequest, messages: list[JsonObject]) -> list[JsonObject]:
    """Return the tools.

    A history with calls needs declarations of the called tools, even if they are not offered now. The API
    cannot express that the model may not call any tool.
    """
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
    spec = dump_function(tool, "inputSchema")
    return {"toolSpec": {**spec, "inputSchema": {"json": spec["inputSchema"]}}}


def _add_cache_point(blocks: list[JsonObject]) -> None:
    if "cachePoint" not in blocks[-1]:
        blocks.append(_CACHE_POINT)


def _unused(name: str, used: set[str]) -> str:
    found, number = name, 2
    while found in used:
        found, number = f"{name} {number}", number + 1
    used.add(found)
    return found
