"""Requests to Responses, in both directions."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest, Position, ToolDefinition
from turnstream.wires.openai_responses.history import parse_input
from turnstream.wires.openai_responses.input import dump_input
from turnstream.wires.shared.call_ids import TEXTS_OF_64, with_fitting_ids
from turnstream.wires.shared.function_tools import split_tools
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.normal_params import effort_for, read_extra_body, read_stop, read_tools

PATH = "/responses"
ENCRYPTED = "reasoning.encrypted_content"

_OUR_FIELDS = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "stream",
        "max_output_tokens",
        "reasoning",
        "text",
    }
)
_OUR_PARAMS = frozenset(
    {
        "tools",
        "tool_choice",
        "thinking",
        "max_tokens",
        "response_format",
        "cache",
        "extra_body",
        "text",
        "stop",
    }
)
_KEEPING = ("background", "previous_response_id", "conversation")
"""Params with which the provider has to keep the response."""
_SUMMARY = "auto"
_DEFAULT_FORMAT_NAME = "answer"


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`.

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
    if not any(params.get(name) for name in _KEEPING):
        params.setdefault("store", False)
    keeps = params.get("store") is not False
    params.setdefault("include", [ENCRYPTED])
    messages = with_fitting_ids(request.messages, TEXTS_OF_64)
    body: JsonObject = {"model": request.model, "input": dump_input(messages, keeps=keeps)}
    body |= {key: value for key, value in params.items() if key not in _OUR_PARAMS and value is not None}
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
    body |= read_extra_body(params)
    accept = "text/event-stream" if request.stream else "application/json"
    return HttpRequest(PATH, {"content-type": "application/json", "accept": accept}, encode_mended(body))


def encode_resume(position: Position) -> HttpRequest:
    """The GET for what a background response has said after `position`."""
    query = f"stream=true&starting_after={position.sequence_number}"
    path = f"{PATH}/{quote(position.response_id, safe='')}?{query}"
    return HttpRequest(path, {"accept": "text/event-stream"}, b"", "GET")


def decode_request(body: bytes) -> ModelRequest:
    """The request that `body` asks for. Tools that are no functions stay in `params["tools"]`.

    Raises InvalidRequest.
    """
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest("the body is not an object")
    model, instructions = value.get("model"), value.get("instructions")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model is missing")
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidRequest("instructions is not text")
    system, history = parse_input(value.get("input"))
    tools, others = split_tools(value.get("tools"), schema="parameters", types=("function",))
    params = _parse_params(value)
    if others:
        params["tools"] = others
    said = "\n\n".join(text for text in (instructions, system) if text)
    return ModelRequest(model, history, said or None, tools, params, value.get("stream") is True)


def _dump_tool(tool: ToolDefinition) -> JsonObject:
    described = {"description": tool.description} if tool.description else {}
    schema = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "name": tool.name, **described, "parameters": schema, "strict": tool.strict}


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
    rest = {key: value for key, value in thinking.items() if key not in ("budget_tokens", "type")}
    if isinstance(budget, int):
        rest.setdefault("effort", effort_for(budget))
    rest.setdefault("summary", _SUMMARY)
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


def _parse_params(value: JsonObject) -> JsonObject:
    """What is missing in the body stays missing when it is written again: None says so."""
    params: JsonObject = {key: item for key, item in value.items() if key not in _OUR_FIELDS}
    if not any(value.get(name) for name in _KEEPING):
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
    if is_object(reasoning) and reasoning.get("summary") == _SUMMARY:
        params["thinking"] = {key: item for key, item in reasoning.items() if key != "summary"}
    elif reasoning is not None:
        params["reasoning"] = reasoning
    if is_object(text := value.get("text")):
        rest = {key: item for key, item in text.items() if key != "format"}
        params |= {"text": rest} if rest else {}
        params |= {"response_format": text["format"]} if text.get("format") is not None else {}
    return params
