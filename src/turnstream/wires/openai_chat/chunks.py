"""Types of the JSON in a chat.completions stream, and its fast decoder.

There are two ways to decode a `Chunk`. msgspec decodes nearly every event directly into these structs. An
event that does not fit (content as a list of parts, arguments as an object, an unknown field in a delta, half
a surrogate pair) is decoded by `loose`, which accepts more and is slower. Deltas refuse unknown fields, so
that vendor-specific fields go into `extras` and are never lost.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object
from turnstream.wires.shared.lenient_json import replace_surrogates
from turnstream.wires.shared.openai_errors import ERRORS
from turnstream.wires.shared.reported_errors import ReportedError

ABSENT = msgspec.Raw()
EXTRAS = "(extras)"
"""Name of the struct field for unknown fields. Providers never send this name."""
SIGNED_PART = "(signed part)"
"""Name of the struct field for the content part that held a signature. Providers never send this name."""


class FunctionDelta(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A fragment of a tool call. For `extras` see `Delta`."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    type: Any = None
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """New content of a choice. `extras` holds the unknown fields, and is never decoded from JSON."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning_details: list[Any] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    function_call: FunctionDelta | None = None
    role: Any = None
    thinking_blocks: list[Any] | None = None
    signature: str | None = None
    provider_specific_fields: JsonObject | None = None
    provider_metadata: JsonObject | None = None
    channel: Any = None
    token_id: Any = None
    token_ids: msgspec.Raw = ABSENT
    index: msgspec.Raw = ABSENT
    created: msgspec.Raw = ABSENT
    signed_part: JsonObject | None = msgspec.field(default=None, name=SIGNED_PART)
    extras: JsonObject | None = msgspec.field(default=None, name=EXTRAS)


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    index: int | None = 0
    finish_reason: str | None = None
    usage: JsonObject | None = None
    error: Any = None
    text: str | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: JsonObject | None = None
    error: Any = None
    x_groq: JsonObject | None = None
    citations: msgspec.Raw = ABSENT
    search_results: msgspec.Raw = ABSENT


decode_typed = msgspec.json.Decoder(Chunk).decode
"""Fast decoder. Raises ValueError or RecursionError for an event that `loose` must decode."""

_KNOWN_OF_A_CHUNK = frozenset(
    {
        "id", "object", "created", "model", "choices", "usage", "citations", "search_results", "obfuscation",
        "p", "error",
    }
)  # fmt: skip
_KNOWN_OF_A_CHOICE = frozenset(
    {"index", "delta", "message", "finish_reason", "usage", "logprobs", "token_ids", "text", "error", "seed"}
)


def leftovers(value: JsonObject) -> JsonObject:
    """Return the vendor-specific fields of a chunk and of its first choice."""
    found = {key: item for key, item in value.items() if key not in _KNOWN_OF_A_CHUNK and not is_blank(item)}
    choices = value.get("choices")
    if is_list(choices) and choices and is_object(choices[0]):
        first = choices[0].items()
        found |= {key: item for key, item in first if key not in _KNOWN_OF_A_CHOICE and not is_blank(item)}
    return replace_surrogates(found)


def has_fields(delta: Delta) -> bool:
    """Return True if a delta has a field of the answer, even an empty one."""
    fields = (
        delta.content, delta.reasoning_content, delta.reasoning, delta.tool_calls, delta.reasoning_details,
        delta.refusal, delta.annotations, delta.function_call, delta.thinking_blocks, delta.signature,
        delta.extras,
    )  # fmt: skip
    return any(field is not None for field in fields)


def error_in(chunk: Chunk, value: JsonObject) -> ReportedError | None:
    """Return the failure that a chunk reports along with its choices, or None."""
    groq = chunk.x_groq.get("error") if chunk.x_groq else None
    return ERRORS.read({**value, "error": value.get("error") or groq})
