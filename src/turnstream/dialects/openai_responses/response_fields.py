"""The fields of a response object that repeat its request, and those that its end sets."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from turnstream.core.turn_events import Terminal, TurnComplete, TurnError
from turnstream.dialects.openai_responses.ids import conversation_id, response_id
from turnstream.dialects.openai_responses.server_calls import SERVER_LABEL
from turnstream.dialects.provider_shaped.projection import stop_reason_of
from turnstream.store.base import TurnRecord
from turnstream.wires.base import WIRE_PARAMS, ToolDefinition
from turnstream.wires.openai_responses.wire import WIRE
from turnstream.wires.shared.json_values import JsonObject, is_object

FACTS = "openai_responses"
"""Key of a turn's metadata with facts of its request that no other field of the turn holds."""
_INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
_CODES = {"rate_limit_error": "rate_limit_exceeded"}
"""Codes of errors that OpenAI names differently."""


class RequestFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Facts of a request that its turn keeps in its metadata.

    Attributes:
        background: The request asked for a background response.
        previous_response_id: Response that the request named, or None.
        conversation: True if the request named a conversation.
        store: False if the request asked for a response that is not stored.
    """

    background: bool = False
    previous_response_id: str | None = None
    conversation: bool = False
    store: bool = True


def facts_of(turn: TurnRecord) -> RequestFacts:
    """Return the facts of a turn's request. A turn of another protocol has the default ones."""
    try:
        return msgspec.convert(turn.metadata.get(FACTS, {}), RequestFacts)
    except msgspec.ValidationError:  # a host application's own key
        return RequestFacts()


def response_fields(turn: TurnRecord) -> JsonObject:
    """Return the fields of a turn's response that repeat its request."""
    facts, params = facts_of(turn), turn.params
    own = _object(_object(params.get(WIRE_PARAMS)).get(WIRE.name))
    return {
        "background": facts.background,
        "conversation": {"id": conversation_id(turn.chat_id)} if facts.conversation else None,
        "instructions": turn.system or None,
        "max_output_tokens": params.get("max_tokens"),
        "metadata": {name: value for name, value in turn.metadata.items() if name != FACTS},
        "parallel_tool_calls": params.get("parallel_tool_calls") is not False,
        "previous_response_id": facts.previous_response_id,
        "reasoning": _reasoning(params.get("thinking")),
        "store": facts.store,
        "temperature": params.get("temperature", 1.0),
        "text": {**_object(own.get("text")), "format": params.get("response_format") or {"type": "text"}},
        "tool_choice": _tool_choice(params.get("tool_choice")),
        "tools": _tools(turn, own.get("tools")),
        "top_p": params.get("top_p", 1.0),
        "truncation": own.get("truncation") or "disabled",
    }


def identity_fields(turn: TurnRecord) -> dict[str, Any]:
    """Return the arguments of the wire's encoder that name a turn's response."""
    return {
        "model": turn.asked_model or turn.model or "",
        "message_id": response_id(turn.id),
        "created": turn.created_at // 1_000_000,
        "fields": response_fields(turn),
    }


def end_fields(end: Terminal) -> dict[str, Any]:
    """Return the fields of a response that has ended."""
    match end:
        case TurnComplete():
            reason = stop_reason_of(end.stop_reason)
            details = _INCOMPLETE.get(reason or "")
            if details is None and reason in ("unknown", "pause_turn"):
                details = end.stop_reason
            if details is None:
                return {"status": "completed"}
            return {"status": "incomplete", "incomplete_details": {"reason": details}}
        case TurnError():
            error = {"code": _CODES.get(end.code, end.code), "message": end.error}
            return {"status": "failed", "error": error}
        case _:
            return {"status": "cancelled"}


def _object(value: Any) -> JsonObject:
    return value if is_object(value) else {}


def _reasoning(thinking: Any) -> JsonObject:
    given = _object(thinking)
    return {"effort": given.get("effort"), "summary": given.get("summary")}


def _tool_choice(choice: Any) -> Any:
    if is_object(choice) and choice.keys() == {"name"}:
        return {"type": "function", "name": choice["name"]}
    return choice or "auto"


def _tools(turn: TurnRecord, others: Any) -> list[JsonObject]:
    tools: list[JsonObject] = []
    named: list[str] = []
    for tool in turn.tools or ():
        if isinstance(tool, ToolDefinition):
            tools.append(
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description or None,
                    "parameters": tool.input_schema,
                    "strict": tool.strict,
                }
            )
        else:
            named.append(tool)
    if named:
        tools.append({"type": "mcp", "server_label": SERVER_LABEL, "allowed_tools": named})
    return [*tools, *(cast("list[JsonObject]", others) if isinstance(others, list) else ())]
