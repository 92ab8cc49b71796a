"""Encodes Responses requests. The inverse is `request_decoder`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, Position, ToolDefinition
from turnstream.wires.openai_responses.items import ENCRYPTED, KEEPING, SUMMARY
from turnstream.wires.openai_responses.messages import dump_input
from turnstream.wires.shared.call_ids import TEXTS_OF_64, with_fitting_ids
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.normal_params import effort_for, read_stop, read_tools
from turnstream.wires.shared.request_bodies import post

_PATH = "/responses"
_MAPPED_PARAMS = (
    "tools", "tool_choice", "thinking", "max_tokens", "response_format", "cache", "extra_body", "text",
    "stop",
)  # fmt: skip
_DEFAULT_FORMAT_NAME = "answer"


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`. Raises InvalidRequest for a request that this API does not support.

    - By default the provider does not store the response (`store: false`), and returns encrypted reasoning.
      `background`, `previous_response_id` and `conversation` require it to be stored.
    - A param that is None is left out.
    - A thinking budget becomes an effort. A summary of the reasoning is requested, unless `thinking.summary`
      is None.
    - Tools are sent with `strict: false` by default, because the strict mode would change schemas that were
      not written for it.
    """
    if read_stop(request.params):
        raise InvalidRequest(
            "Responses does not support stop sequences: leave out stop,"
            " or give it in extra_body if your server does"
        )
    params = {**request.params}
    if not any(params.get(name) for name in KEEPING):
        params.setdefault("store", False)
    keeps = params.get("store") is not False
    params.setdefault("include", [ENCRYPTED])
    messages = with_fitting_ids(request.messages, TEXTS_OF_64)
    body: JsonObject = {"model": request.model, "input": dump_input(messages, keeps=keeps)}
    body |= {key: value for key, value in without(params, *_MAPPED_PARAMS).items() if value is not None}
    body["stream"] = request.stream
    if request.system:
        body["instructions"] = request.system
    if (limit := params.get("max_tokens")) is not None:
        body["max_output_tokens"] = limit
    if (thinking := params.get("thinking")) is not None:
        body["reasoning"] = _dump_thinking(thinking)
    if text := _dump_text(params.get("text"), params.get("response_format")):
        body["text"] = text
    if tools := [*map(_dump_tool, request.tools), *read_tools(params)]:
        body["tools"] = tools
        if (choice := params.get("tool_choice")) is not None:
            body["tool_choice"] = _dump_tool_choice(choice)
    return post(request, _PATH, body)


def encode_resume(position: Position) -> HttpRequest:
    """Return the GET for the events of a background response after `position`.

    A negative sequence number asks for all events.
    """
    query = "stream=true"
    if position.sequence_number >= 0:
        query += f"&starting_after={position.sequence_number}"
    path = f"{_PATH}/{quote(position.response_id, safe='')}?{query}"
    return HttpRequest(path, {"accept": "text/event-stream"}, b"", "GET")


def encode_cancel(response_id: str) -> HttpRequest:
    """Return the POST that cancels a background response."""
    path = f"{_PATH}/{quote(response_id, safe='')}/cancel"
    return HttpRequest(path, {"accept": "application/json"}, b"")


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    return {"type": "function", **dump_function(tool, "parameters"), "strict": tool.strict}


def _dump_tool_choice(choice: Any) -> Any:
    """Return `auto`, `none`, `required` or `{"name": …}` in this API's format. Other values pass through."""
    if choice == "any":
        return "required"
    if is_object(choice) and "name" in choice and "type" not in choice:
        return {"type": "function", "name": choice["name"]}
    return choice


def _dump_thinking(thinking: Any) -> Any:
    """Return the `reasoning` object for `{budget_tokens}` or `{effort}`. A value that is not an object
    passes through."""
    if not is_object(thinking):
        return thinking
    budget = thinking.get("budget_tokens")
    rest = without(thinking, "budget_tokens", "type")
    if isinstance(budget, int):
        rest.setdefault("effort", effort_for(budget))
    rest.setdefault("summary", SUMMARY)
    return {key: value for key, value in rest.items() if value is not None}


def _dump_text(text: Any, response_format: Any) -> JsonObject:
    given = dict(text) if is_object(text) else {}
    return given if response_format is None else {**given, "format": _dump_format(response_format)}


def _dump_format(format_value: Any) -> Any:
    """Return the response format with the schema and its required name in one object. Chat Completions nests
    them in another object."""
    if not is_object(format_value) or format_value.get("type") != "json_schema":
        return format_value
    inner = format_value.get("json_schema")
    given = inner if is_object(inner) else format_value
    named = {key: value for key, value in given.items() if value is not None}
    return {"name": _DEFAULT_FORMAT_NAME, **named, "type": "json_schema"}
