"""The JSON of a Gemini stream: `GenerateContentResponse` objects, each with the new parts of the answer.

Almost every event has one piece of text and is decoded straight into `PlainChunk`, which rejects anything
else. Every other event is decoded as plain JSON, under the names of the REST API. Proto names
(`finish_reason`) are accepted too.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, read_json

ABSENT = msgspec.Raw()
_SNAKE = re.compile(r"_([a-z0-9])")


class PlainPart(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text: str
    thought: bool = False


class PlainContent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    parts: tuple[PlainPart]
    role: msgspec.Raw = ABSENT


class PlainCandidate(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: PlainContent
    index: Literal[0] = 0


class PlainChunk(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """An event with one piece of text, and otherwise only with fields that every event repeats."""

    candidates: tuple[PlainCandidate]
    usage_metadata: msgspec.Raw = ABSENT
    model_version: msgspec.Raw = ABSENT
    response_id: msgspec.Raw = ABSENT
    create_time: msgspec.Raw = ABSENT


decode_plain = msgspec.json.Decoder(PlainChunk).decode
"""Decodes a plain event quickly. Raises ValueError or RecursionError for any other event."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def objects_in(value: Any) -> list[JsonObject]:
    """Return the objects of a list, under the REST API's names. Any other value gives an empty list."""
    return [named(item) for item in value if is_object(item)] if is_list(value) else []


def text_in(value: Any) -> str:
    return value if isinstance(value, str) else ""


def named(value: JsonObject) -> JsonObject:
    """Return `value` under the REST API's names and without nulls. Nested objects are unchanged."""
    if "_" in "".join(value) or None in value.values():
        return {_camel(key): item for key, item in value.items() if item is not None}
    return value


def read_events(data: bytes) -> list[Any]:
    """Return the values of an event: a single one, or those of a list. Lone surrogates stay in the strings.

    Raises MalformedEvent if `data` is not JSON, or is nested too deeply.
    """
    value = read_json(data)
    return value if is_list(value) else [value]


def _camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name)


def citations_of(candidate: JsonObject) -> list[Any]:
    """Return the citations of a candidate: its `citationMetadata`, and each source of its grounding.

    A source is its grounding chunk. `segments` are added if the answer has them, with `startIndex` and
    `endIndex` in bytes of the answer's text. All other fields stay in the message's metadata.
    """
    found: list[Any] = []
    if is_object(metadata := candidate.get("citationMetadata")):
        metadata = named(metadata)
        found.extend(objects_in(metadata.get("citations") or metadata.get("citationSources")))
    if is_object(metadata := candidate.get("groundingMetadata")):
        found.extend(_grounding(named(metadata)))
    return found


def has_blocked_rating(candidate: JsonObject) -> bool:
    """Return True if a safety rating says that the candidate's content is blocked."""
    return any(rating.get("blocked") is True for rating in objects_in(candidate.get("safetyRatings")))


def _grounding(metadata: JsonObject) -> list[JsonObject]:
    chunks = objects_in(metadata.get("groundingChunks"))
    segments: list[list[JsonObject]] = [[] for _ in chunks]
    for support in objects_in(metadata.get("groundingSupports")):
        indices = support.get("groundingChunkIndices")
        for index in indices if is_list(indices) else ():
            if isinstance(index, int) and 0 <= index < len(chunks):
                segments[index].append(_segment(support.get("segment")))
    return [
        {**chunk, "segments": places} if places else chunk
        for chunk, places in zip(chunks, segments, strict=True)
    ]


def _segment(segment: Any) -> JsonObject:
    fields = named(segment) if is_object(segment) else {}
    return {
        key: fields[key] for key in ("partIndex", "startIndex", "endIndex") if type(fields.get(key)) is int
    }
