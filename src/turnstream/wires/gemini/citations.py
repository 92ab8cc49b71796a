"""The sources of an answer, as citations of its text."""

from __future__ import annotations

from typing import Any

from turnstream.wires.gemini.chunks import named, objects_in
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object


def citations_of(candidate: JsonObject) -> list[Any]:
    """What a candidate cites: its `citationMetadata` as it is, and each source that it is grounded in.

    A source is its grounding chunk, with `segments` where the answer names them: `startIndex` and `endIndex` in bytes of
    the answer's text. Everything else about them is in the message's metadata.
    """
    found: list[Any] = []
    if is_object(metadata := candidate.get("citationMetadata")):
        metadata = named(metadata)
        found.extend(objects_in(metadata.get("citations") or metadata.get("citationSources")))
    if is_object(metadata := candidate.get("groundingMetadata")):
        found.extend(_grounding(named(metadata)))
    return found


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
