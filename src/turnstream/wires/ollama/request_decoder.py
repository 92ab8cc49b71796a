"""Decodes requests to Ollama into ModelRequests. The inverse of `requests`."""

from __future__ import annotations

from typing import Any

from turnstream.wires.base import ModelRequest
from turnstream.wires.ollama.messages import parse_messages
from turnstream.wires.ollama.options import OWN_OPTIONS, PARAM_OF, SHARED_OPTIONS
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.request_bodies import expect_if_given, expect_objects, read_body, read_model

_MAPPED_FIELDS = (
    "model", "messages", "tools", "stream", "options", "prompt", "system", "images", "raw", "format", "think",
)  # fmt: skip
_EFFORTS = ("low", "medium", "high")


def decode_request(_path: str, body: bytes) -> ModelRequest:
    """Return the request in `body`, which is one of `/api/chat` or `/api/generate`.

    Raises InvalidRequest if the body is invalid.
    """
    value = read_body(body)
    model = read_model(value)
    system, history = parse_messages(expect_objects(_messages_of(value), "messages", "a message"))
    tools, others = split_tools(
        value.get("tools"), schema="parameters", types=("function", None), inside="function"
    )
    params = _parse_params(value)
    if others:
        params["tools"] = others
    return ModelRequest(model, history, system, tools, params, stream=value.get("stream") is not False)


def _messages_of(value: JsonObject) -> Any:
    """Return the messages, or those for a prompt of `/api/generate`."""
    messages = value.get("messages")
    if messages is None and "prompt" in value:
        system = [{"role": "system", "content": value["system"]}] if value.get("system") else []
        return [*system, {"role": "user", "content": value["prompt"], "images": value.get("images")}]
    return messages


def _parse_params(value: JsonObject) -> JsonObject:
    """Return the params: options under turnstream's names, and unknown fields that are not empty."""
    extra = without(value, *_MAPPED_FIELDS)
    params = {key: item for key, item in extra.items() if item not in (None, "", [], {})}
    params |= _parse_format(value.get("format"))
    think = value.get("think")
    if isinstance(think, str) and think in _EFFORTS:
        params["thinking"] = {"effort": think}
    elif think is not None:
        params["think"] = think
    options: JsonObject = expect_if_given(value.get("options"), dict, "options")
    for option, item in options.items():
        if item is not None:
            params[PARAM_OF.get(option, option)] = item
    if isinstance(stop := params.get("stop"), str):
        params["stop"] = [stop]
    unknown = {key for key in options if key not in PARAM_OF and key not in SHARED_OPTIONS | OWN_OPTIONS}
    if unknown:
        params["options"] = {key: params.pop(key) for key in sorted(unknown) if key in params}
    return params


def _parse_format(format_value: Any) -> JsonObject:
    if is_object(format_value) and format_value:
        return {"response_format": {"type": "json_schema", "schema": format_value}}
    return {"response_format": {"type": "json_object"}} if format_value == "json" else {}
