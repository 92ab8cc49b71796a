"""Allowed differences between the request of an official client and ours, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from tests.clients.request_builders import Body


class Difference(NamedTuple):
    """A rule that removes an allowed difference, for `client`, or for all clients if it is None."""

    client: str | None
    reason: str
    apply: Callable[[Body], Body]


def without_empty_fields(body: Body) -> Body:
    return {key: value for key, value in body.items() if value not in (None, [], {})}


def with_stream(body: Body) -> Body:
    return {"stream": False, **body}


def without_auto(body: Body) -> Body:
    return {key: value for key, value in body.items() if (key, value) != ("tool_choice", "auto")}


def with_listed_content(body: Body) -> Body:
    def listed(message: Body) -> Body:
        content = message["content"]
        return (
            {**message, "content": [{"type": "text", "text": content}]}
            if isinstance(content, str)
            else message
        )

    return {**body, "messages": [listed(message) for message in body["messages"]]}


def without_ids(body: Body) -> Body:
    """Return calls and results without their ids."""

    def plain(message: Body) -> Body:
        calls = [{k: v for k, v in call.items() if k != "id"} for call in message.get("tool_calls", [])]
        rest = {key: value for key, value in message.items() if key != "tool_call_id"}
        return {**rest, "tool_calls": calls} if calls else rest

    return {**body, "messages": [plain(message) for message in body["messages"]]}


def with_listed_input(body: Body) -> Body:
    given = body["input"]
    return {**body, "input": [{"role": "user", "content": given}] if isinstance(given, str) else given}


def with_rest_names(value: Any) -> Any:
    """Return fields under their REST names. Names inside the caller's own values (schemas, arguments) are
    unchanged."""
    if isinstance(value, list):
        return [with_rest_names(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    named = {
        re.sub("_([a-z])", lambda found: found[1].upper(), key): item
        for key, item in cast(Body, value).items()
    }
    own = ("parametersJsonSchema", "responseJsonSchema", "args", "response", "ofTomorrow")
    return {key: item if key in own else with_rest_names(item) for key, item in named.items()}


def without_system_role(body: Body) -> Body:
    system = body.get("systemInstruction")
    return {**body, "systemInstruction": {"parts": system["parts"]}} if system else body


def with_small_levels(body: Body) -> Body:
    config = body["generationConfig"]
    match config:
        case {"thinkingConfig": {"thinkingLevel": str(level)} as thinking}:
            lowered = {**thinking, "thinkingLevel": level.lower()}
            return {**body, "generationConfig": {**config, "thinkingConfig": lowered}}
        case _:
            return body


def with_standard_base64(body: Body) -> Body:
    def standard(part: Body) -> Body:
        signature = part.get("thoughtSignature")
        return {**part, "thoughtSignature": signature.translate(_STANDARD)} if signature else part

    contents = [
        {**content, "parts": [standard(part) for part in content["parts"]]} for content in body["contents"]
    ]
    return {**body, "contents": contents}


_STANDARD = str.maketrans("-_", "+/")

DIFFERENCES = (
    Difference("ollama", "a field that says nothing (null, empty) is left out", without_empty_fields),
    Difference("openai", "`auto` is what a missing tool_choice means", without_auto),
    Difference("anthropic", "text alone is the same as a list of one text block", with_listed_content),
    Difference(
        "ollama",
        "this client leaves out the ids of calls, which newer servers send and take",
        without_ids,
    ),
    Difference("openai-responses", "text alone is the same as a list of one message", with_listed_input),
    Difference(
        "google-genai",
        "this client writes some fields by their proto names (`mime_type`), which the API reads like those of REST",
        with_rest_names,
    ),
    Difference("google-genai", "the role of a systemInstruction says nothing", without_system_role),
    Difference(
        "google-genai",
        "this client writes a level of thinking in capitals; the API takes small letters too",
        with_small_levels,
    ),
    Difference(
        "google-genai",
        "this client writes a signature's bytes anew, in the base64 of URLs; ours goes back as it came",
        with_standard_base64,
    ),
)
