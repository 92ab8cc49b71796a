"""Converts token counts of Responses into turnstream's, and back."""

from __future__ import annotations

from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject, is_object, whole_count


def parse_usage(raw: JsonObject) -> Usage:
    """Return the token counts. `input_tokens` includes cached tokens, as the provider's own does."""
    given, made = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    read = given if is_object(given) else {}
    written = made if is_object(made) else {}
    return Usage(
        whole_count(raw.get("input_tokens")),
        whole_count(raw.get("output_tokens")),
        whole_count(read.get("cached_tokens")),
        whole_count(read.get("cache_write_tokens")),
        whole_count(written.get("reasoning_tokens")),
    )


def dump_usage(usage: Usage | None, raw: JsonObject | None) -> JsonObject | None:
    """Return the usage object of a response: the provider's own if it has this API's format, else one from
    the token counts."""
    if raw is not None and "input_tokens_details" in raw:
        return raw
    if usage is None:
        return None
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    details: JsonObject = {"cached_tokens": usage.cache_read_tokens or 0}
    if usage.cache_write_tokens is not None:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + made,
    }
