"""Requests to chat.completions, in both directions (requirement F1)."""

from __future__ import annotations

import re
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition
from turnstream.wires.json_values import JsonObject, is_list, is_object, kept
from turnstream.wires.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.openai_chat_messages import RawMessage, dump_messages, parse_messages

PATH = "/chat/completions"

_OUR_FIELDS = frozenset(
    {"model", "messages", "tools", "tool_choice", "stream", "stop", "max_completion_tokens"}
)
_OUR_PARAMS = frozenset(
    {"stop", "tool_choice", "thinking", "max_tokens", "stream_options", "tools", "reasoning_field"}
)
_TAKES_COMPLETION_TOKENS = re.compile(r"(?:o\d|gpt-[5-9]|gpt-\d\d|codex|chatgpt)")
_WITH_USAGE = {"include_usage": True}
_EFFORTS = ((2048, "low"), (8192, "medium"))


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`.

    `max_tokens` keeps its name, which every vendor takes, but for OpenAI's reasoning models, which take only
    `max_completion_tokens`. A thinking budget becomes `reasoning_effort`. A param that is None is left out;
    `stream_options` of None or False are left out too, for vendors that refuse them. `reasoning_field` names the field in
    which a vendor wants the model's thinking back (DeepSeek's `reasoning_content`); by default none goes.
    """
    params = request.params
    body: JsonObject = {"model": request.model, "messages": _dump_messages(request)}
    body |= {key: value for key, value in params.items() if key not in _OUR_PARAMS and value is not None}
    body["stream"] = True
    if options := params.get("stream_options", _WITH_USAGE):
        body["stream_options"] = options
    if (limit := params.get("max_tokens")) is not None:
        body.setdefault(_limit_field(request.model), limit)
    if params.get("stop"):
        body["stop"] = params["stop"]
    if (thinking := params.get("thinking")) is not None:
        body |= _dump_thinking(thinking)
    tools = [_dump_tool(tool) for tool in request.tools] + list(params.get("tools") or ())
    if tools:
        body["tools"] = tools
        body["tool_choice"] = _dump_tool_choice(params.get("tool_choice"))
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    return HttpRequest(PATH, headers, encode_json(body))


def decode_request(body: bytes) -> ModelRequest:
    """The request that `body` asks for. Tools that are no functions stay in `params["tools"]`. Raises InvalidRequest."""
    try:
        value: Any = kept(mend_surrogates(decode_json(body)))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest("the body is not an object")
    model, messages = value.get("model"), value.get("messages")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model is missing")
    if not is_list(messages):
        raise InvalidRequest("messages is not a list")
    system, history = parse_messages(messages)
    tools, others = _parse_tools(value.get("tools"))
    params = _parse_params(value)
    if others:
        params["tools"] = others
    return ModelRequest(model, history, system, tools, params)


def _dump_messages(request: ModelRequest) -> list[RawMessage]:
    field = request.params.get("reasoning_field")
    messages = dump_messages(request.messages, field if isinstance(field, str) else None)
    return [{"role": "system", "content": request.system}, *messages] if request.system else messages


def _limit_field(model: str) -> str:
    return "max_completion_tokens" if _TAKES_COMPLETION_TOKENS.match(model) else "max_tokens"


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _dump_tool_choice(choice: Any) -> Any:
    """`auto`, `none`, `required` and `{"name": …}` in this API's words; its own objects pass through."""
    match choice:
        case None:
            return "auto"
        case "any":
            return "required"
        case {"name": name}:
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice


def _dump_thinking(thinking: Any) -> JsonObject:
    """Our `{budget_tokens}` as an effort; a vendor's own object (one with a `type`) passes through."""
    if not is_object(thinking) or "type" in thinking:
        return {"thinking": thinking}
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return {"thinking": thinking}
    return {"reasoning_effort": next((effort for limit, effort in _EFFORTS if budget <= limit), "high")}


def _parse_params(value: JsonObject) -> JsonObject:
    params = {key: item for key, item in value.items() if key not in _OUR_FIELDS}
    if params.get("stream_options") == _WITH_USAGE:
        del params["stream_options"]
    if (limit := value.get("max_completion_tokens")) is not None:
        params["max_tokens"] = limit
    if stop := value.get("stop"):
        params["stop"] = [stop] if isinstance(stop, str) else stop
    choice = value.get("tool_choice")
    if (
        is_object(choice)
        and is_object(function := choice.get("function"))
        and choice.get("type") == "function"
    ):
        choice = {"name": function.get("name")}
    if choice is not None and choice != "auto":
        params["tool_choice"] = choice
    return params


def _parse_tools(raw: Any) -> tuple[tuple[ToolDefinition, ...], list[Any]]:
    if raw is not None and not is_list(raw):
        raise InvalidRequest("tools is not a list")
    tools: list[ToolDefinition] = []
    others: list[Any] = []
    for item in raw or []:
        function = item.get("function") if is_object(item) else None
        if not is_object(function) or function.keys() - {"name", "description", "parameters", "strict"}:
            others.append(item)
            continue
        if function.get("strict"):
            others.append(item)
            continue
        name, schema = function.get("name"), function.get("parameters", {})
        if not isinstance(name, str) or not name or not is_object(schema):
            raise InvalidRequest("a tool has no name, or its parameters are not an object")
        tools.append(ToolDefinition(name, str(function.get("description") or ""), schema))
    return tuple(tools), others
