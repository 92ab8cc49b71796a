"""Conversions between Gemini's token counts and turnstream's.

`input_tokens` includes tokens read from a cache, as Gemini counts, and tokens that Gemini's own tools add to
the prompt, which Gemini counts separately. `output_tokens` includes thoughts, which Gemini counts separately.
"""

from __future__ import annotations

from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import JsonObject, first_count


def read_usage(raw: JsonObject) -> Usage:
    """Return the counts of `raw`, a `usageMetadata`. Fields that are not counts are ignored."""
    prompt, tools = first_count(raw.get("promptTokenCount")), first_count(raw.get("toolUsePromptTokenCount"))
    answer, thoughts = (
        first_count(raw.get("candidatesTokenCount")),
        first_count(raw.get("thoughtsTokenCount")),
    )
    return Usage(
        _sum(prompt, tools),
        _sum(answer, thoughts),
        cache_read_tokens=first_count(raw.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def write_usage(usage: Usage | None, raw: JsonObject | None) -> JsonObject | None:
    """Return a `usageMetadata`. The provider's own is returned unchanged if it has this wire's fields."""
    if raw is not None and "promptTokenCount" in raw:
        return raw
    if usage is None:
        return None
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    prompt = (usage.input_tokens or 0) + (cached if raw is not None and "input_tokens" in raw else 0)
    output, thoughts = usage.output_tokens or 0, usage.reasoning_tokens
    found: JsonObject = {"promptTokenCount": prompt}
    if usage.output_tokens is not None:
        found["candidatesTokenCount"] = max(0, output - (thoughts or 0))
    found["totalTokenCount"] = prompt + output
    if usage.cache_read_tokens is not None:
        found["cachedContentTokenCount"] = usage.cache_read_tokens
    if thoughts is not None:
        found["thoughtsTokenCount"] = thoughts
    return found


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)
