"""Conversions between Bedrock's token counts and turnstream's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import whole_count

_COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_tokens",
    "cacheWriteInputTokens": "cache_write_tokens",
}
_FIELDS = frozenset({*_COUNTS, "totalTokens", "cacheDetails", "serverToolUsage"})


def parse_usage(raw: Mapping[str, Any]) -> Usage:
    """Return the counts of `raw`, a `usage` object. Fields that are not counts are ignored."""
    counts = {ours: whole_count(raw.get(theirs)) for theirs, ours in _COUNTS.items()}
    return Usage(**counts)


def dump_usage(usage: Usage | None, raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a `usage` object: the counts, and the fields of `raw` that this protocol knows."""
    fields = {key: value for key, value in (raw or {}).items() if key in _FIELDS}
    if usage is None:
        return fields
    for theirs, ours in _COUNTS.items():
        if (count := getattr(usage, ours)) is not None:
            fields[theirs] = count
    return fields


def with_total(fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with the three counts that the API always reports."""
    known = {"inputTokens": 0, "outputTokens": 0, **fields}
    total = sum(known.get(name) or 0 for name in _COUNTS)
    return {"totalTokens": total, **known}
