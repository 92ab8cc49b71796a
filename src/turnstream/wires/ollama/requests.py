"""Requests to Ollama, in both directions."""

from __future__ import annotations

import re
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, ToolDefinition
from turnstream.wires.ollama.messages import dump_messages, parse_messages
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.normal_params import (
    effort_of,
    read_extra_body,
    read_response_format,
    read_stop,
    read_tools,
)

PATH = "/api/chat"

_OPTION_OF = {"max_tokens": "num_predict"}
_PARAM_OF = {option: param for param, option in _OPTION_OF.items()}
_SHARED_OPTIONS = frozenset({"temperature", "top_p", "top_k", "stop"})
_OWN_OPTIONS = frozenset(
    {
        "frequency_penalty", "main_gpu", "min_p", "mirostat", "mirostat_eta", "mirostat_tau", "num_batch", "num_ctx",
        "num_gpu", "num_keep", "num_predict", "num_thread", "presence_penalty", "repeat_last_n", "repeat_penalty",
        "seed", "tfs_z", "typical_p", "use_mmap",
    }
)  # fmt: skip
_OUR_PARAMS = frozenset(
    {
        "thinking",
        "tool_choice",
        "tools",
        "options",
        "response_format",
        "cache",
        "parallel_tool_calls",
        "extra_body",
    }
)
_OUR_FIELDS = frozenset(
    {
        "model",
        "messages",
        "tools",
        "stream",
        "options",
        "prompt",
        "system",
        "images",
        "raw",
        "format",
        "think",
    }
)
_OUR_EFFORTS = frozenset({"low", "medium", "high"})
_KNOWS_EFFORTS = re.compile(r"gpt-oss", re.IGNORECASE)


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`.

    What Ollama knows as an option goes into `options`, `max_tokens` as `num_predict`; a thinking budget becomes
    `"think": true`, and so does an effort where the model knows none. A schema goes into `format`, without its name.
    Of the tool_choice only "none" can be told: no tools are sent then. The hints `cache`, for which there is no need, and
    `parallel_tool_calls` are left out. A param that is None is left out. Raises InvalidRequest for what this API cannot
    be asked for.
    """
    _check_tool_choice(request.params.get("tool_choice"))
    params = {key: value for key, value in request.params.items() if value is not None}
    given = params.get("options")
    options: JsonObject = dict(given) if is_object(given) else {}
    body: JsonObject = {"model": request.model, "messages": []}
    if stop := read_stop(params):
        params["stop"] = stop
    for key, value in params.items():
        if key in _OPTION_OF or key in _SHARED_OPTIONS or key in _OWN_OPTIONS:
            options[_OPTION_OF.get(key, key)] = value
        elif key not in _OUR_PARAMS:
            body[key] = value
    system = [{"role": "system", "content": request.system}] if request.system else []
    body["messages"] = [*system, *dump_messages(request.messages)]
    body["stream"] = request.stream
    if options:
        body["options"] = options
    if (thinking := params.get("thinking")) is not None:
        body.setdefault("think", _dump_thinking(request.model, thinking))
    if (asked := read_response_format(params)) is not None:
        body["format"] = "json" if asked.schema is None else asked.schema
    tools = [_dump_tool(tool) for tool in request.tools] + read_tools(params)
    if tools and params.get("tool_choice") != "none":
        body["tools"] = tools
    body |= read_extra_body(params)
    accept = "application/x-ndjson" if request.stream else "application/json"
    headers = {"content-type": "application/json", "accept": accept}
    return HttpRequest(PATH, headers, encode_mended(body))


def decode_request(body: bytes) -> ModelRequest:
    """The request that `body`, of `/api/chat` or of `/api/generate`, asks for. Raises InvalidRequest."""
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest("the body is not an object")
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model is missing")
    system, history = parse_messages(_messages_of(value))
    tools, others = split_tools(
        value.get("tools"), schema="parameters", types=("function", None), inside="function"
    )
    params = _parse_params(value)
    if others:
        params["tools"] = others
    return ModelRequest(model, history, system, tools, params, stream=value.get("stream") is not False)


def _messages_of(value: JsonObject) -> list[Any]:
    """The messages; those that a prompt of `/api/generate` stands for."""
    messages = value.get("messages")
    if messages is None and "prompt" in value:
        system = [{"role": "system", "content": value["system"]}] if value.get("system") else []
        return [*system, {"role": "user", "content": value["prompt"], "images": value.get("images")}]
    if not is_list(messages):
        raise InvalidRequest("messages is not a list")
    return messages


def _parse_params(value: JsonObject) -> JsonObject:
    """Params: options under our names, and the fields that we do not know, where they say anything."""
    params = {
        key: item for key, item in value.items() if key not in _OUR_FIELDS and item not in (None, "", [], {})
    }
    params |= _parse_format(value.get("format"))
    think = value.get("think")
    if isinstance(think, str) and think in _OUR_EFFORTS:
        params["thinking"] = {"effort": think}
    elif think is not None:
        params["think"] = think
    options = value.get("options")
    if options is None:
        return params
    if not is_object(options):
        raise InvalidRequest("options is not an object")
    for option, item in options.items():
        if item is not None:
            params[_PARAM_OF.get(option, option)] = item
    if isinstance(stop := params.get("stop"), str):
        params["stop"] = [stop]
    unknown = {key for key in options if key not in _PARAM_OF and key not in _SHARED_OPTIONS | _OWN_OPTIONS}
    if unknown:
        params["options"] = {key: params.pop(key) for key in sorted(unknown) if key in params}
    return params


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _check_tool_choice(choice: Any) -> None:
    if choice not in (None, "none", "auto"):
        raise InvalidRequest(
            "this model's API cannot make a model call a tool: tool_choice may be auto or none"
        )


def _parse_format(asked: Any) -> JsonObject:
    if is_object(asked) and asked:
        return {"response_format": {"type": "json_schema", "schema": asked}}
    return {"response_format": {"type": "json_object"}} if asked == "json" else {}


def _dump_thinking(model: str, thinking: Any) -> Any:
    """Our `{budget_tokens}` as a yes, our `{effort}` too where the model knows none; Anthropic's `{"type": "disabled"}`
    as a no; an effort's name as it is."""
    effort = effort_of(thinking)
    if effort is not None and _KNOWS_EFFORTS.search(model):
        return effort
    if is_object(thinking):
        return thinking.get("type") != "disabled"
    return thinking
