"""Encodes requests to Anthropic Messages. `request_decoder` is the inverse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from turnstream.core.blocks import Block, Message
from turnstream.errors import InvalidRequest
from turnstream.wires.anthropic.blocks import USERS_OWN, returned_block
from turnstream.wires.anthropic.cache import mark_for_cache
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.shared.call_ids import WORDS_OF_64, with_fitting_ids
from turnstream.wires.shared.claude_thinking import dump_thinking, room_for_thinking
from turnstream.wires.shared.function_tools import dump_function
from turnstream.wires.shared.histories import Role, alternate_roles, side_of
from turnstream.wires.shared.json_values import JsonObject, is_object, is_one_of, without
from turnstream.wires.shared.normal_params import given_params, read_response_format, read_stop, read_tools
from turnstream.wires.shared.request_bodies import post

PATH = "/v1/messages"
API_VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 8192
"""Limit of the answer (tokens) if the caller sets none.

The API requires a limit, and every current model accepts this one. The thinking budget, which counts towards
the limit, is added.
"""

_MAPPED_PARAMS = (
    "stop", "tool_choice", "thinking", "tools", "parallel_tool_calls", "response_format", "cache",
    "extra_body", "output_config",
)  # fmt: skip


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`.

    Omits params that are None, and blocks of the history that the API would refuse (`returned_block`). Raises
    InvalidRequest if the API does not support the request.
    """
    params = given_params(request)
    body = without(params, *_MAPPED_PARAMS)
    thinking, effort = dump_thinking(request.model, params.get("thinking"))
    body.setdefault("max_tokens", DEFAULT_MAX_TOKENS + room_for_thinking(request.model, thinking, effort))
    body |= {"model": request.model, "stream": request.stream}
    messages = with_fitting_ids(request.messages, WORDS_OF_64)
    body["messages"] = _dump_messages(messages, unsigned=request.reasoning_field is not None)
    if request.system:
        body["system"] = request.system
    if stop := read_stop(params):
        body["stop_sequences"] = stop
    if thinking is not None:
        body["thinking"] = thinking
    if output := _dump_output(params, effort):
        body["output_config"] = output
    if tools := [*(dump_function(tool, "input_schema") for tool in request.tools), *read_tools(params)]:
        body["tools"] = tools
        if (choice := _dump_tool_choice(params)) is not None:
            body["tool_choice"] = choice
    if params.get("cache") is True:
        mark_for_cache(body)
    encoded = post(request, PATH, body)
    encoded.headers["anthropic-version"] = API_VERSION
    return encoded


def _dump_messages(messages: Iterable[Message], *, unsigned: bool) -> list[JsonObject]:
    """Return messages whose roles alternate.

    If the API accepts a block from one role only, the block gets that role. For example, the tool results of
    an assistant turn become the user's.

    Args:
        unsigned: True to include thinking without a signature.
    """
    entries: list[tuple[str, list[JsonObject]]] = []
    for message in messages:
        for block in message.blocks:
            raw, role = returned_block(block, unsigned=unsigned), _role_of(block, message.role)
            if raw is not None and role is not None:
                entries.append((role, [raw]))
    return alternate_roles(entries, field="content")


def _role_of(block: Block, role: Role) -> Role | None:
    if block.block_type == "provider":
        return "user" if is_one_of((block.content or {}).get("type"), USERS_OWN) else "assistant"
    return side_of(block, role)


def _dump_tool_choice(params: JsonObject) -> Any:
    """Return `tool_choice` in this API's form. The API's own objects pass through.

    Includes `disable_parallel_tool_use` if `parallel_tool_calls` is False.
    """
    found: Any = params.get("tool_choice")
    match found:
        case "required" | "any":
            found = {"type": "any"}
        case str():
            found = {"type": found}
        case {"name": name} if "type" not in found:
            found = {"type": "tool", "name": name}
        case _:
            pass
    if params.get("parallel_tool_calls") is not False:
        return found
    choice: JsonObject = found if is_object(found) else {"type": "auto"}
    return choice if choice.get("type") == "none" else {**choice, "disable_parallel_tool_use": True}


def _dump_output(params: JsonObject, effort: str | None) -> JsonObject:
    """Return `output_config`: the effort, and the schema of the answer.

    Raises InvalidRequest if a JSON answer is requested without a schema.
    """
    given = params.get("output_config")
    output: JsonObject = dict(given) if is_object(given) else {}
    if effort is not None:
        output["effort"] = effort
    encoded = read_response_format(params)
    if encoded is not None and encoded.schema is None:
        raise InvalidRequest(
            "this model's API needs a schema for a JSON answer: "
            "give response_format {type: json_schema, schema}"
        )
    if encoded is not None:
        output["format"] = {"type": "json_schema", "schema": encoded.schema}
    return output
