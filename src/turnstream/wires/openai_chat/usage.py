"""Reads token counts from the usage objects of chat.completions vendors, and writes them."""

from __future__ import annotations

from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject, first_count, is_object


def read_usage(raw: JsonObject) -> Usage:
    """Return the token counts. `input_tokens` is the provider's prompt_tokens, cached tokens included.

    Cached tokens are not subtracted: one vendor reports more cached tokens than prompt tokens.
    """
    prompt = _part(raw, "prompt_tokens_details", "input_tokens_details")
    completion = _part(raw, "completion_tokens_details", "output_tokens_details")
    return Usage(
        input_tokens=first_count(raw.get("prompt_tokens"), raw.get("input_tokens")),
        output_tokens=first_count(raw.get("completion_tokens"), raw.get("output_tokens")),
        cache_read_tokens=first_count(
            prompt.get("cached_tokens"), raw.get("prompt_cache_hit_tokens"), raw.get("cached_tokens")
        ),
        cache_write_tokens=first_count(prompt.get("cache_write_tokens"), prompt.get("cache_creation_tokens")),
        reasoning_tokens=first_count(completion.get("reasoning_tokens"), raw.get("reasoning_tokens")),
    )


def write_usage(usage: Usage | None, raw: JsonObject | None) -> JsonObject | None:
    """Return the usage object of the last chunk: the provider's own if it has this API's format, else one
    from the token counts."""
    if raw is not None and "prompt_tokens" in raw:
        return raw
    if usage is None:
        return None
    cached = usage.cache_read_tokens or 0
    written = usage.cache_write_tokens or 0
    excluded = cached + written if raw is not None and "input_tokens" in raw else 0
    prompt = (usage.input_tokens or 0) + excluded
    completion = usage.output_tokens or 0
    found: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if usage.cache_read_tokens is not None or usage.cache_write_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": cached}
        if usage.cache_write_tokens is not None:
            found["prompt_tokens_details"]["cache_write_tokens"] = written
    if usage.reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return found


def _part(raw: JsonObject, *names: str) -> JsonObject:
    for name in names:
        if is_object(part := raw.get(name)):
            return part
    return {}
