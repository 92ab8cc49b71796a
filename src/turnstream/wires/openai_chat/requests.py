"""Encodes chat.completions requests. The inverse is `request_decoder`."""

from __future__ import annotations

import re
from typing import Any

from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.openai_chat.messages import ReasoningField, dump_messages
from turnstream.wires.shared.call_ids import (
    ANY,
    NINE_CHARACTERS,
    TEXTS_OF_40,
    TEXTS_OF_40_OR_NONE,
    WORDS_OF_64,
    IdRule,
    with_fitting_ids,
)
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.normal_params import (
    budget_of,
    effort_for,
    effort_of,
    given_params,
    read_response_format,
    read_stop,
    read_tools,
)
from turnstream.wires.shared.request_bodies import post

_MAPPED_PARAMS = (
    "stop", "tool_choice", "thinking", "max_tokens", "stream_options", "tools", "reasoning_field", "cache",
    "extra_body", "response_format", "parallel_tool_calls",
)  # fmt: skip
_TAKES_COMPLETION_TOKENS = re.compile(r"(?:o\d|gpt-[5-9]|gpt-\d\d|codex|chatgpt)")
_TAKES_NINE_CHARACTERS = re.compile(
    r"mi[sx]tral|magistral|(?:code|mini|dev|pix|vox)stral|mathstral", re.IGNORECASE
)
_OF_OPENAI = re.compile(r"^(?:openai/)?(?:gpt-|o\d|chatgpt|codex)")
_DEFAULT_FORMAT_NAME = "answer"


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`. Raises InvalidRequest for a request that this API does not support.

    - `max_tokens` keeps its name, except for OpenAI's reasoning models: they accept only
      `max_completion_tokens`.
    - A thinking budget becomes `reasoning_effort`.
    - A param that is None is left out. So is `stream_options` of False, for vendors that refuse the field.
    - `reasoning_field` names the field in which a vendor needs thinking back with every message. Without it,
      thinking is sent back only if the model needs it (`request.reasoning_field`).
    - The hint `cache` is left out, because these services cache by themselves. `prompt_cache_key` passes
      through.
    """
    params = request.params
    body: JsonObject = {"model": request.model, "messages": _dump_messages(request)}
    body |= without(given_params(request), *_MAPPED_PARAMS)
    body["stream"] = request.stream
    if request.stream and (options := params.get("stream_options", {"include_usage": True})):
        body["stream_options"] = options
    if (limit := params.get("max_tokens")) is not None:
        completion = "completion_" if _TAKES_COMPLETION_TOKENS.match(request.model) else ""
        body.setdefault(f"max_{completion}tokens", limit)
    if stop := read_stop(params):
        body["stop"] = stop
    if (format_value := params.get("response_format")) is not None:
        body["response_format"] = _dump_response_format(format_value)
    if (thinking := params.get("thinking")) is not None:
        body |= _dump_thinking(thinking)
    functions = [dump_function(tool, "parameters") for tool in request.tools]
    tools = [{"type": "function", "function": function} for function in functions] + read_tools(params)
    if tools:
        body["tools"] = tools
        body["tool_choice"] = _dump_tool_choice(params.get("tool_choice"))
        if (parallel := params.get("parallel_tool_calls")) is not None:
            body["parallel_tool_calls"] = parallel
    return post(request, "/chat/completions", body)


def _dump_messages(request: ModelRequest) -> list[JsonObject]:
    field = request.params.get("reasoning_field")
    if isinstance(field, str):
        reasoning = ReasoningField(field, includes_all=True)
    else:
        reasoning = ReasoningField(request.reasoning_field) if request.reasoning_field else None
    messages = dump_messages(with_fitting_ids(request.messages, _id_rule(request.model)), reasoning)
    return [{"role": "system", "content": request.system}, *messages] if request.system else messages


def _id_rule(model: str) -> IdRule:
    if _TAKES_NINE_CHARACTERS.search(model):
        return NINE_CHARACTERS
    if "claude" in model:
        return WORDS_OF_64  # Claude behind a gateway
    if "kimi" in model.lower():
        return ANY
    return TEXTS_OF_40 if _OF_OPENAI.search(model) else TEXTS_OF_40_OR_NONE


def _dump_tool_choice(choice: Any) -> Any:
    """Return `auto`, `none`, `required` or `{"name": …}` in this API's format. Other values pass through."""
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
    """Return the effort of `{effort}`, or of `{budget_tokens}`. A vendor's own object passes through."""
    if (effort := effort_of(thinking)) is not None:
        return {"reasoning_effort": effort}
    if (budget := budget_of(thinking)) is not None:
        return {"reasoning_effort": effort_for(budget)}
    return {"thinking": thinking}


def _dump_response_format(format_value: Any) -> Any:
    """Return `{type: json_schema, name, schema, strict?}` in this API's format. A vendor's own object
    passes through."""
    if (
        not is_object(format_value)
        or format_value.get("type") != "json_schema"
        or "json_schema" in format_value
    ):
        return format_value
    found = read_response_format({"response_format": format_value})
    if found is None or found.schema is None:
        return format_value
    inner: JsonObject = {"name": found.name or _DEFAULT_FORMAT_NAME, "schema": found.schema}
    if found.strict is not None:
        inner["strict"] = found.strict
    return {"type": "json_schema", "json_schema": inner}
