"""Conversions between Anthropic's token counts and turnstream's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.core.usage import Usage
from turnstream.wires.shared.json_values import is_object, whole_count

_FIELDS = frozenset(
    {
        "input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens",
        "cache_creation", "fallback_credit", "inference_geo", "iterations", "output_tokens_details",
        "server_tool_use", "service_tier", "speed",
    }
)  # fmt: skip


def parse_usage(raw: Mapping[str, Any]) -> Usage:
    """Return the counts of `raw`, a `usage` object. Fields that are not counts are ignored."""
    found: Any = raw.get("output_tokens_details")
    details = found if is_object(found) else {}
    return Usage(
        whole_count(raw.get("input_tokens")),
        whole_count(raw.get("output_tokens")),
        whole_count(raw.get("cache_read_input_tokens")),
        whole_count(raw.get("cache_creation_input_tokens")),
        whole_count(details.get("thinking_tokens")),
    )


def dump_usage(usage: Usage | None, raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a `usage` object: the counts, and the fields of `raw` that this protocol knows."""
    fields = {key: value for key, value in (raw or {}).items() if key in _FIELDS}
    if usage is None:
        return fields
    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }
    fields |= {key: count for key, count in counts.items() if count is not None}
    if usage.reasoning_tokens is not None:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


class UsageReports:
    """The usage that a stream reports in several events."""

    __slots__ = ("_fields", "_input_counted")

    def __init__(self) -> None:
        self._fields: set[str] = set()
        self._input_counted = False

    def report(self, raw: Any, leftovers: dict[str, Any], events: list[StreamEvent]) -> None:
        """Add one usage report to `events`.

        Counts are cumulative: a later one replaces an earlier one. Null is ignored. So is an input of 0 after
        another number, which some gateways send at the end of a stream.

        Args:
            raw: Field `usage` of the event, of any type.
            leftovers: Other fields of the event or the message, which become `provider_metadata`.
            events: Receives the Metadata event, if there is anything to report.
        """
        usage: Usage | None = None
        reported: dict[str, Any] | None = None
        if is_object(raw):
            reported = {k: v for k, v in raw.items() if v is not None or k not in self._fields}
            self._fields.update(reported)
            usage = parse_usage(reported)
            if self._input_counted and usage.input_tokens == 0:
                usage = msgspec.structs.replace(usage, input_tokens=None)
            self._input_counted = self._input_counted or bool(usage.input_tokens)
        if usage is not None or leftovers:
            events.append(Metadata(usage, reported, provider_metadata=leftovers or None))
