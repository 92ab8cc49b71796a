"""Encodes requests to Ollama. `request_decoder` is the inverse."""

from __future__ import annotations

import re
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.ollama.messages import dump_messages
from turnstream.wires.ollama.options import OPTION_OF, OWN_OPTIONS, SHARED_OPTIONS
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.normal_params import (
    effort_of,
    given_params,
    read_response_format,
    read_stop,
    read_tools,
)
from turnstream.wires.shared.request_bodies import post

_MAPPED_PARAMS = (
    "thinking", "tool_choice", "tools", "options", "response_format", "cache",
    "parallel_tool_calls", "extra_body",
)  # fmt: skip
_TAKES_EFFORTS = re.compile(r"gpt-oss", re.IGNORECASE)


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`.

    - Ollama's options go into `options`, `max_tokens` as `num_predict`.
    - A thinking budget becomes `"think": true`, and so does an effort if the model has no efforts.
    - A schema goes into `format`, without its name.
    - A tool_choice "none" omits the tools.
    - `cache`, which is unnecessary, `parallel_tool_calls`, and params that are None are omitted.

    Raises InvalidRequest if the API does not support the request.
    """
    _check_tool_choice(request.params.get("tool_choice"))
    params = given_params(request)
    given = params.get("options")
    options: JsonObject = dict(given) if is_object(given) else {}
    body: JsonObject = {"model": request.model, "messages": []}
    if stop := read_stop(params):
        params["stop"] = stop
    for key, value in params.items():
        if key in OPTION_OF or key in SHARED_OPTIONS or key in OWN_OPTIONS:
            options[OPTION_OF.get(key, key)] = value
        elif key not in _MAPPED_PARAMS:
            body[key] = value
    system = [{"role": "system", "content": request.system}] if request.system else []
    body["messages"] = [*system, *dump_messages(request.messages)]
    body["stream"] = request.stream
    if options:
        body["options"] = options
    if (thinking := params.get("thinking")) is not None:
        body.setdefault("think", _dump_thinking(request.model, thinking))
    if (format_value := read_response_format(params)) is not None:
        body["format"] = "json" if format_value.schema is None else format_value.schema
    functions = [dump_function(tool, "parameters", strict=False) for tool in request.tools]
    tools = [{"type": "function", "function": function} for function in functions] + read_tools(params)
    if tools and params.get("tool_choice") != "none":
        body["tools"] = tools
    return post(request, "/api/chat", body, stream_type="application/x-ndjson")


def _check_tool_choice(choice: Any) -> None:
    if choice not in (None, "none", "auto"):
        raise InvalidRequest(
            "this model's API cannot make a model call a tool: tool_choice may be auto or none"
        )


def _dump_thinking(model: str, thinking: Any) -> Any:
    """Return the field `think`.

    `{budget_tokens}` gives True, and so does `{effort}` if the model has no efforts. `{"type": "disabled"}`,
    which is Anthropic's form, gives False. The name of an effort is unchanged.
    """
    effort = effort_of(thinking)
    if effort is not None and _TAKES_EFFORTS.search(model):
        return effort
    if is_object(thinking):
        return thinking.get("type") != "disabled"
    return thinking
