"""Requests to Responses. `request_decoder` is the way back."""

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
_OUR_PARAMS = (
    "tools", "tool_choice", "thinking", "max_tokens", "response_format", "cache", "extra_body", "text", "stop",
)  # fmt: skip
_DEFAULT_FORMAT_NAME = "answer"


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`.

    Where the caller does not say otherwise the provider keeps nothing (`store: false`), and so gives the reasoning in
    encrypted form; with `background`, `previous_response_id` or `conversation` keeping is what is asked for. A param that is
    None is left out. A thinking budget becomes an effort; summaries come with it unless `thinking.summary` is None. Tools are
    sent with `strict: false`: a schema that was not written for the strict mode would be changed by it. Raises
    InvalidRequest for what this API cannot be asked for.
    """
    if read_stop(request.params):
        raise InvalidRequest(
            "Responses knows no stop sequences: leave out stop, or give it in extra_body to a server that does"
        )
    params = {**request.params}
    if not any(params.get(name) for name in KEEPING):
        params.setdefault("store", False)
    keeps = params.get("store") is not False
    params.setdefault("include", [ENCRYPTED])
    messages = with_fitting_ids(request.messages, TEXTS_OF_64)
    body: JsonObject = {"model": request.model, "input": dump_input(messages, keeps=keeps)}
    body |= {key: value for key, value in without(params, *_OUR_PARAMS).items() if value is not None}
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
    """Return the GET for what a background response has said after `position`."""
    query = f"stream=true&starting_after={position.sequence_number}"
    path = f"{_PATH}/{quote(position.response_id, safe='')}?{query}"
    return HttpRequest(path, {"accept": "text/event-stream"}, b"", "GET")


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    return {"type": "function", **dump_function(tool, "parameters"), "strict": tool.strict}


def _dump_tool_choice(choice: Any) -> Any:
    """`auto`, `none`, `required` and `{"name": …}` in this API's words; its own objects pass through."""
    if choice == "any":
        return "required"
    if is_object(choice) and "name" in choice and "type" not in choice:
        return {"type": "function", "name": choice["name"]}
    return choice


def _dump_thinking(thinking: Any) -> Any:
    """Our `{budget_tokens}` or `{effort}`; what has neither passes through."""
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


def _dump_format(asked: Any) -> Any:
    """A schema beside its name, which this API demands; Chat Completions has both in an object of their own."""
    if not is_object(asked) or asked.get("type") != "json_schema":
        return asked
    inner = asked.get("json_schema")
    given = inner if is_object(inner) else asked
    named = {key: value for key, value in given.items() if value is not None}
    return {"name": _DEFAULT_FORMAT_NAME, **named, "type": "json_schema"}
