"""Decodes Responses requests into ModelRequests: the inverse of `requests`."""

from __future__ import annotations

from turnstream.wires.base import ModelRequest
from turnstream.wires.openai_responses.items import ENCRYPTED, KEEPING, SUMMARY
from turnstream.wires.openai_responses.messages import parse_input
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.request_bodies import expect_if_given, read_body, read_model

_MAPPED_FIELDS = (
    "model", "input", "instructions", "tools", "tool_choice", "stream", "max_output_tokens", "reasoning",
    "text",
)  # fmt: skip


def decode_request(_path: str, body: bytes) -> ModelRequest:
    """Return the request in `body`. Tools that are not functions stay in `params["tools"]`. Raises
    InvalidRequest."""
    value = read_body(body)
    model = read_model(value)
    instructions: str = expect_if_given(value.get("instructions"), str, "instructions")
    system, history = parse_input(value.get("input"))
    tools, others = split_tools(value.get("tools"), schema="parameters", types=("function",))
    params = _parse_params(value)
    if others:
        params["tools"] = others
    system_text = "\n\n".join(text for text in (instructions, system) if text)
    return ModelRequest(model, history, system_text or None, tools, params, value.get("stream") is True)


def _parse_params(value: JsonObject) -> JsonObject:
    """Return the params. `store` and `include` are None if the body lacks them, so that the encoder adds no
    default."""
    params = without(value, *_MAPPED_FIELDS)
    if not any(value.get(name) for name in KEEPING):
        params.setdefault("store", None)
    params.setdefault("include", None)
    if params.get("store") is False:
        del params["store"]
    if params["include"] == [ENCRYPTED]:
        del params["include"]
    if (limit := value.get("max_output_tokens")) is not None:
        params["max_tokens"] = limit
    choice = value.get("tool_choice")
    if is_object(choice) and choice.get("type") == "function" and choice.keys() == {"type", "name"}:
        choice = {"name": choice["name"]}
    if choice is not None:
        params["tool_choice"] = choice
    reasoning = value.get("reasoning")
    if is_object(reasoning) and reasoning.get("summary") == SUMMARY:
        params["thinking"] = without(reasoning, "summary")
    elif reasoning is not None:
        params["reasoning"] = reasoning
    if is_object(text := value.get("text")):
        rest = without(text, "format")
        params |= {"text": rest} if rest else {}
        params |= {"response_format": text["format"]} if text.get("format") is not None else {}
    return params
