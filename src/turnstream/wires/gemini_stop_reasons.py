"""Gemini's words for why a model stopped, and ours (requirement E3)."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason

_OURS: dict[str, StopReason] = {
    "STOP": "end_turn",
    "MAX_TOKENS": "max_tokens",
    "CONTINUATION": "max_tokens",
    "SAFETY": "content_filtered",
    "RECITATION": "content_filtered",
    "LANGUAGE": "content_filtered",
    "BLOCKLIST": "content_filtered",
    "PROHIBITED_CONTENT": "content_filtered",
    "SPII": "content_filtered",
    "ESCALATION": "content_filtered",
    "IMAGE_SAFETY": "content_filtered",
    "IMAGE_PROHIBITED_CONTENT": "content_filtered",
    "IMAGE_RECITATION": "content_filtered",
    "MODEL_ARMOR": "guardrail_intervened",
}
_THEIRS: dict[StopReason, str] = {
    "max_tokens": "MAX_TOKENS",
    "content_filtered": "SAFETY",
    "guardrail_intervened": "MODEL_ARMOR",
    "refusal": "SAFETY",
    "unknown": "OTHER",
}
UNSAID = frozenset(
    {"", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"}
)
"""What stands for no reason."""


def parse_stop_reason(raw: str, *, called: bool) -> StopReason:
    """Our word; `unknown` for one that this wire does not know. Gemini says STOP also where the model calls functions."""
    reason = _OURS.get(raw.upper(), "unknown")
    return "tool_use" if called and reason == "end_turn" else reason


def parse_block_reason(raw: str) -> StopReason:
    """Our word for why a prompt was not answered."""
    return "guardrail_intervened" if raw.upper() == "MODEL_ARMOR" else "content_filtered"


def dump_stop_reason(stop: MessageStop) -> str:
    """Gemini's word: the raw one where it is its own for the same reason, or one for which we have no word."""
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if raw and raw.isupper():
        ours = _OURS.get(raw, "unknown")
        if ours == reason or (ours == "end_turn" and reason == "tool_use"):
            return raw
    return "STOP" if reason is None else _THEIRS.get(reason, "STOP")
