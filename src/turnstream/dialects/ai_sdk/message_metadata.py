"""The facts of a turn in the AI SDK's spelling: tokens, cost, and the reason of its end."""

from __future__ import annotations

from typing import Any

from turnstream.core.turn_events import Terminal, UsageReport
from turnstream.core.usage import Usage

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "context_window": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
    "content_filter": "content-filter",
}


def finish_reason(stop_reason: str | None) -> str:
    """Return the AI SDK's reason for a turn's reason to stop."""
    return _FINISH_REASONS.get(stop_reason or "", "other")


def account_of(event: UsageReport | Terminal) -> dict[str, Any]:
    """Return tokens and cost as metadata of a message."""
    usage = event.usage or Usage()
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    account: dict[str, Any] = {"usage": {name: count for name, count in counts.items() if count is not None}}
    if isinstance(event.cost, str):
        account["cost"] = event.cost
    if event.estimated is True:
        account["estimated"] = True
    return account
