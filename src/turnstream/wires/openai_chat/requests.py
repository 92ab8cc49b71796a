"""Requests to chat.completions, in both directions."""

from __future__ import annotations

import re
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition
from turnstream.wires.openai_chat.messages import RawMessage, ReasoningField, dump_messages, parse_messages
from turnstream.wires.shared.call_ids import (
    ANY,
    NINE_CHARACTERS,
    TEXTS_OF_40,
    TEXTS_OF_40_OR_NONE,
    WORDS_OF_64,
    IdRule,
    with_fitting_ids,
)
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.normal_params import (
    budget_of,
    effort_for,
    effort_of,
    read_extra_body,
    read_response_format,
    read_stop,
    read_tools,
)

PATH = "/chat/completions"

_OUR_FIELDS = frozenset(
    {
        "model", "messages", "tools", "tool_choice", "stream", "stop", "max_completion_tokens", "response_format",
        "reasoning_effort",
    }
)  # fmt: skip
_OUR_PARAMS = frozenset(
    {
        "stop", "tool_choice", "thinking", "max_tokens", "stream_options", "tools", "reasoning_field", "cache",
        "extra_body", "response_format", "parallel_tool_calls",
    }
)  # fmt: skip
_TAKES_COMPLETION_TOKENS = re.compile(r"(?:o\d|gpt-[5-9]|gpt-\d\d|codex|chatgpt)")
_TAKES_NINE_CHARACTERS = re.compile(
    r"mi[sx]tral|magistral|(?:code|mini|dev|pix|vox)stral|mathstral", re.IGNORECASE
)
_OF_OPENAI = re.compile(r"^(?:openai/)?(?:gpt-|o\d|chatgpt|codex)")
_WITH_USAGE = {"include_usage": True}
_OUR_EFFORTS = frozenset({"low", "medium", "high"})
_DEFAULT_FORMAT_NAME = "answer"


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`.

    `max_tokens` keeps its name, which every vendor takes, but for OpenAI's reasoning models, which take only
    `max_completion_tokens`. A thinking budget becomes `reasoning_effort`. A param that is None is left out;
    `stream_options` of None or False are left out too, for vendors that refuse them. `reasoning_field` names the field in
    which a vendor wants the model's thinking back with every message (`reasoning_content`); without it thinking goes back only where
    the model needs it (`request.reasoning_field`). The hint `cache`
    is left out, since these services keep what they were sent by themselves; a `prompt_cache_key` passes through.
    Raises InvalidRequest for what this API cannot be asked for.
    """
    params = request.params
    body: JsonObject = {"model": request.model, "messages": _dump_messages(request)}
    body |= {key: value for key, value in params.items() if key not in _OUR_PARAMS and value is not None}
    body["stream"] = request.stream
    if request.stream and (options := params.get("stream_options", _WITH_USAGE)):
        body["stream_options"] = options
    if (limit := params.get("max_tokens")) is not None:
        body.setdefault(_limit_field(request.model), limit)
    if stop := read_stop(params):
        body["stop"] = stop
    if (asked := params.get("response_format")) is not None:
        body["response_format"] = _dump_response_format(asked)
    if (thinking := params.get("thinking")) is not None:
        body |= _dump_thinking(thinking)
    tools = [_dump_tool(tool) for tool in request.tools] + read_tools(params)
    if tools:
        body["tools"] = tools
        body["tool_choice"] = _dump_tool_choice(params.get("tool_choice"))
        if (parallel := params.get("parallel_tool_calls")) is not None:
            body["parallel_tool_calls"] = parallel
    body |= read_extra_body(params)
    accept = "text/event-stream" if request.stream else "application/json"
    headers = {"content-type": "application/json", "accept": accept}
    return HttpRequest(PATH, headers, encode_mended(body))


def decode_request(body: bytes) -> ModelRequest:
    """The request that `body` asks for. Tools that are no functions stay in `params["tools"]`. Raises InvalidRequest."""
    try:
        value: Any = mend_surrogates(decode_json(body))
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
    tools, others = split_tools(
        value.get("tools"), schema="parameters", types=("function", None), inside="function"
    )
    params = _parse_params(value)
    if others:
        params["tools"] = others
    return ModelRequest(model, history, system, tools, params, stream=value.get("stream") is True)


def _dump_messages(request: ModelRequest) -> list[RawMessage]:
    field = request.params.get("reasoning_field")
    if isinstance(field, str):
        reasoning = ReasoningField(field, with_all=True)
    else:
        reasoning = ReasoningField(request.reasoning_field) if request.reasoning_field else None
    messages = dump_messages(with_fitting_ids(request.messages, _id_rule(request.model)), reasoning)
    return [{"role": "system", "content": request.system}, *messages] if request.system else messages


def _id_rule(model: str) -> IdRule:
    if _TAKES_NINE_CHARACTERS.search(model):
        return NINE_CHARACTERS
    if "claude" in model:
        return WORDS_OF_64  # behind a gateway
    if "kimi" in model.lower():
        return ANY
    return TEXTS_OF_40 if _OF_OPENAI.search(model) else TEXTS_OF_40_OR_NONE


def _limit_field(model: str) -> str:
    return "max_completion_tokens" if _TAKES_COMPLETION_TOKENS.match(model) else "max_tokens"


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object", "properties": {}}
    if tool.strict:
        function["strict"] = True
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
    """Our `{effort}`, or our `{budget_tokens}` as an effort; a vendor's own object passes through."""
    if (effort := effort_of(thinking)) is not None:
        return {"reasoning_effort": effort}
    if (budget := budget_of(thinking)) is not None:
        return {"reasoning_effort": effort_for(budget)}
    return {"thinking": thinking}


def _dump_response_format(asked: Any) -> Any:
    """Our `{type: json_schema, name, schema, strict?}` in this API's shape; a vendor's own passes through."""
    if not is_object(asked) or asked.get("type") != "json_schema" or "json_schema" in asked:
        return asked
    found = read_response_format({"response_format": asked})
    if found is None or found.schema is None:
        return asked
    inner: JsonObject = {"name": found.name or _DEFAULT_FORMAT_NAME, "schema": found.schema}
    if found.strict is not None:
        inner["strict"] = found.strict
    return {"type": "json_schema", "json_schema": inner}


def _parse_response_format(asked: Any) -> Any:
    inner = asked.get("json_schema") if is_object(asked) and asked.keys() == {"type", "json_schema"} else None
    if (
        not is_object(inner)
        or inner.keys() - {"name", "schema", "strict"}
        or not is_object(inner.get("schema"))
    ):
        return asked
    named = {key: value for key, value in inner.items() if value is not None}
    return {"type": "json_schema", **named}


def _parse_params(value: JsonObject) -> JsonObject:
    params = {key: item for key, item in value.items() if key not in _OUR_FIELDS}
    if params.get("stream_options") == _WITH_USAGE:
        del params["stream_options"]
    if (limit := value.get("max_completion_tokens")) is not None:
        params["max_tokens"] = limit
    if stop := value.get("stop"):
        params["stop"] = [stop] if isinstance(stop, str) else stop
    if (asked := value.get("response_format")) is not None:
        params["response_format"] = _parse_response_format(asked)
    effort = value.get("reasoning_effort")
    if isinstance(effort, str) and effort in _OUR_EFFORTS and "thinking" not in params:
        params["thinking"] = {"effort": effort}
    elif effort is not None:
        params["reasoning_effort"] = effort
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
