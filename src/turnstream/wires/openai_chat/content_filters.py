"""Results of Azure's content filters in a stream.

A filter that runs before the text is sent ends the answer, and withdraws nothing that was sent. An
asynchronous filter reports on text that was sent already. Only its reports have offsets.
"""

from __future__ import annotations

from typing import Any

from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

_RESULTS = "content_filter_results"
_OFFSETS = "content_filter_offsets"


def withdraws(chunk: JsonObject, index: int) -> bool:
    """Return True if a chunk reports that text which was sent for choice `index` is filtered."""
    choices = chunk.get("choices")
    return any(
        is_object(choice)
        and (choice.get("index") or 0) == index
        and is_object(choice.get(_OFFSETS))
        and _is_filtered(choice.get(_RESULTS))
        for choice in (choices if is_list(choices) else ())
    )


def _is_filtered(results: Any) -> bool:
    found = results.values() if is_object(results) else ()
    return any(is_object(result) and result.get("filtered") is True for result in found)


def withdrawal() -> JsonObject:
    """Return the choice that withdraws the text so far."""
    offsets = {"check_offset": 0, "start_offset": 0, "end_offset": 0}
    results = {"protected_material_text": {"detected": True, "filtered": True}}
    return {"index": 0, "finish_reason": None, _RESULTS: results, _OFFSETS: offsets}
