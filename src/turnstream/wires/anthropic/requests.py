"""Requests to Anthropic Messages, in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, cast

from turnstream.core.blocks import Block, Message
from turnstream.errors import InvalidRequest
from turnstream.wires.anthropic.blocks import USERS_OWN, RawBlock, parse_block, returned_block
from turnstream.wires.anthropic.cache import mark_for_cache, take_cache_marks
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition
from turnstream.wires.shared.call_ids import WORDS_OF_64, with_fitting_ids
from turnstream.wires.shared.claude_thinking import dump_thinking, room_for_thinking
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import is_one_of
from turnstream.wires.shared.lenient_json import decode_json, encode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.normal_params import read_extra_body, read_response_format, read_stop, read_tools

Role: TypeAlias = Literal["user", "assistant"]

PATH = "/v1/messages"
API_VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 8192
"""The answer's limit where the caller sets none: the API demands one, and every current model accepts this. What its
thinking may take, which counts towards it, is added."""

_OUR_FIELDS = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "stop_sequences",
        "stream",
        "thinking",
        "output_config",
    }
)
_OUR_PARAMS = frozenset(
    {
        "stop",
        "tool_choice",
        "thinking",
        "tools",
        "parallel_tool_calls",
        "response_format",
        "cache",
        "extra_body",
        "output_config",
    }
)


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`. Blocks that the API would refuse are left out of the history (`returned_block`). A param that
    is None is left out. Raises InvalidRequest for what this API cannot be asked for."""
    params = {key: value for key, value in request.params.items() if value is not None}
    body: dict[str, Any] = {key: value for key, value in params.items() if key not in _OUR_PARAMS}
    thinking, effort = dump_thinking(request.model, params.get("thinking"))
    body.setdefault("max_tokens", DEFAULT_MAX_TOKENS + room_for_thinking(request.model, thinking, effort))
    body |= {"model": request.model, "stream": request.stream}
    messages = with_fitting_ids(request.messages, WORDS_OF_64)
    body["messages"] = dump_messages(messages, unsigned=request.reasoning_field is not None)
    if request.system:
        body["system"] = request.system
    if stop := read_stop(params):
        body["stop_sequences"] = stop
    if thinking is not None:
        body["thinking"] = thinking
    if output := _dump_output(params, effort):
        body["output_config"] = output
    if tools := [*map(_dump_tool, request.tools), *read_tools(params)]:
        body["tools"] = tools
        if (choice := _dump_tool_choice(params)) is not None:
            body["tool_choice"] = choice
    if params.get("cache") is True:
        mark_for_cache(body)
    body |= read_extra_body(params)
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if request.stream else "application/json",
        "anthropic-version": API_VERSION,
    }
    return HttpRequest(PATH, headers, encode_mended(body))


def decode_request(body: bytes) -> ModelRequest:
    """The request that `body` asks for. Raises InvalidRequest.

    System blocks are joined to one text; tools without an input schema (the server's own) stay in `params["tools"]`.
    """
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    fields = _expect(value, dict, "the body")
    try:
        return _parse_request(fields)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def dump_messages(messages: Iterable[Message], *, unsigned: bool = False) -> list[dict[str, Any]]:
    """Messages whose roles alternate; with thinking that is not signed if `unsigned`. A block's kind decides its side where the API leaves no choice: an assistant
    turn may hold the results of its tools, which the API takes from the user."""
    dumped: list[dict[str, Any]] = []
    for message in messages:
        for block in message.blocks:
            raw = returned_block(block, unsigned=unsigned)
            role = _role_of(block, message.role)
            if raw is None or role is None:
                continue
            if not dumped or dumped[-1]["role"] != role:
                dumped.append({"role": role, "content": []})
            dumped[-1]["content"].append(raw)
    return dumped


def _role_of(block: Block, role: Role) -> Role | None:
    match block.block_type:
        case "tool_use" | "thinking":
            return "assistant"
        case "provider":
            return "user" if is_one_of((block.content or {}).get("type"), USERS_OWN) else "assistant"
        case "tool_result":
            return "assistant" if (block.content or {}).get("provider_executed") else "user"
        case "image" | "document":
            return "user" if role == "user" else None
        case _:
            return role


def _dump_tool(tool: ToolDefinition) -> dict[str, Any]:
    schema = tool.input_schema or {"type": "object", "properties": {}}
    described = {"description": tool.description} if tool.description else {}
    strict = {"strict": True} if tool.strict else {}
    return {"name": tool.name, **described, "input_schema": schema, **strict}


def _dump_tool_choice(params: dict[str, Any]) -> Any:
    """`auto`, `none`, `required` and `{"name": …}` in this API's words; its own objects pass through. That calls may not
    be parallel is said there too."""
    found: Any = params.get("tool_choice")
    match found:
        case "required" | "any":
            found = {"type": "any"}
        case str():
            found = {"type": found}
        case {"name": name} if "type" not in found:
            found = {"type": "tool", "name": name}
        case _:
            pass
    if params.get("parallel_tool_calls") is not False:
        return found
    choice: dict[str, Any] = cast(dict[str, Any], found) if isinstance(found, dict) else {"type": "auto"}
    return choice if choice.get("type") == "none" else {**choice, "disable_parallel_tool_use": True}


def _dump_output(params: dict[str, Any], effort: str | None) -> dict[str, Any]:
    """`output_config`: the effort, and the schema that the answer must fit. Raises InvalidRequest."""
    given: Any = params.get("output_config")
    output: dict[str, Any] = dict(cast(dict[str, Any], given)) if isinstance(given, dict) else {}
    if effort is not None:
        output["effort"] = effort
    asked = read_response_format(params)
    if asked is not None and asked.schema is None:
        raise InvalidRequest(
            "this model's API holds answers to a schema only: give response_format {type: json_schema, schema}"
        )
    if asked is not None:
        output["format"] = {"type": "json_schema", "schema": asked.schema}
    return output


def _parse_request(fields: dict[str, Any]) -> ModelRequest:
    params: dict[str, Any] = {key: value for key, value in fields.items() if key not in _OUR_FIELDS}
    if unmarked := take_cache_marks(fields):
        fields = unmarked
        params["cache"] = True
    if fields.get("stop_sequences"):
        params["stop"] = fields["stop_sequences"]
    output = _expect(fields.get("output_config") or {}, dict, "output_config")
    params |= _parse_thinking(_expect(fields.get("thinking") or {}, dict, "thinking"), output)
    params |= _parse_output(output, params)
    if (choice := fields.get("tool_choice")) is not None:
        params |= _parse_tool_choice(_expect(choice, dict, "tool_choice"))
    tools, others = split_tools(fields.get("tools"), schema="input_schema", types=("custom", None))
    if others:
        params["tools"] = [_expect(tool, dict, "a tool") for tool in others]
    messages = _expect(fields.get("messages"), list, "messages")
    return ModelRequest(
        model=_expect(fields.get("model"), str, "model"),
        messages=tuple(_parse_message(_expect(message, dict, "a message")) for message in messages),
        system=_parse_system(fields.get("system")),
        tools=tools,
        params=params,
        stream=fields.get("stream") is True,
    )


def _parse_message(message: dict[str, Any]) -> Message:
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise InvalidRequest("a message's role is user or assistant")
    content = message.get("content")
    raw = (
        [{"type": "text", "text": content}] if isinstance(content, str) else _expect(content, list, "content")
    )
    return Message(
        role, tuple(_parse_content(n, _expect(block, dict, "a block")) for n, block in enumerate(raw))
    )


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
    blocks = [_expect(block, dict, "a system block") for block in _expect(system, list, "system")]
    return "\n\n".join(_expect(block.get("text"), str, "a system block's text") for block in blocks)


def _parse_thinking(thinking: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    match thinking:
        case {"type": "enabled"}:
            return {"thinking": {key: value for key, value in thinking.items() if key != "type"}}
        case {"type": "adaptive"} if isinstance(effort := output.get("effort"), str):
            return {"thinking": {**{k: v for k, v in thinking.items() if k != "type"}, "effort": effort}}
        case _:
            return {"thinking": thinking} if thinking else {}


def _parse_output(output: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """The asked format, and what else `output_config` says."""
    rest = dict(output)
    found: dict[str, Any] = {}
    if "effort" in params.get("thinking", {}):
        rest.pop("effort", None)
    asked: Any = rest.get("format")
    if isinstance(asked, dict) and asked.keys() == {"type", "schema"} and asked["type"] == "json_schema":
        found["response_format"] = asked
        del rest["format"]
    return {**found, "output_config": rest} if rest else found


def _parse_tool_choice(choice: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in choice.items() if key != "disable_parallel_tool_use"}
    one_by_one = choice.get("disable_parallel_tool_use") is True
    found: dict[str, Any] = {"parallel_tool_calls": False} if one_by_one else {}
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


def _expect(value: Any, kind: type[Any], name: str) -> Any:
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list", str: "a string"}[kind]
        raise InvalidRequest(f"{name} must be {expected}")
    return value
