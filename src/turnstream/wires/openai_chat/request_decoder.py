"""Decodes chat.completions requests into ModelRequests: the inverse of `requests`."""

from __future__ import annotations

from typing import Any

from turnstream.wires.base import ModelRequest
from turnstream.wires.openai_chat.messages import parse_messages
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.request_bodies import expect_objects, read_body, read_model

_MAPPED_FIELDS = (
    "model", "messages", "tools", "tool_choice", "stream", "stop", "max_completion_tokens", "response_format",
    "reasoning_effort",
)  # fmt: skip
_EFFORTS = ("low", "medium", "high")


def decode_request(_path: str, body: bytes) -> ModelRequest:
    """Return the request in `body`. Tools that are not functions stay in `params["tools"]`. Raises
    InvalidRequest."""
    value = read_body(body)
    model = read_model(value)
    system, history = parse_messages(expect_objects(value.get("messages"), "messages", "a message"))
    tools, others = split_tools(
        value.get("tools"), schema="parameters", types=("function", None), inside="function"
    )
    params = _parse_params(value)
    if others:
        params["tools"] = others
    return ModelRequest(model, history, system, tools, params, stream=value.get("stream") is True)


def _parse_response_format(format_value: Any) -> Any:
    inner = (
        format_value.get("json_schema")
        if is_object(format_value) and format_value.keys() == {"type", "json_schema"}
        else None
    )
    if (
        not is_object(inner)
        or inner.keys() - {"name", "schema", "strict"}
        or not is_object(inner.get("schema"))
    ):
        return format_value
    named = {key: value for key, value in inner.items() if value is not None}
    return {"type": "json_schema", **named}


def _parse_params(value: JsonObject) -> JsonObject:
    params = without(value, *_MAPPED_FIELDS)
    if params.get("stream_options") == {"include_usage": True}:
        del params["stream_options"]
    if (limit := value.get("max_completion_tokens")) is not None:
        params["max_tokens"] = limit
    if stop := value.get("stop"):
        params["stop"] = [stop] if isinstance(stop, str) else stop
    if (format_value := value.get("response_format")) is not None:
        params["response_format"] = _parse_response_format(format_value)
    effort = value.get("reasoning_effort")
    if isinstance(effort, str) and effort in _EFFORTS and "thinking" not in params:
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
