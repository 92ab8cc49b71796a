"""Conversions between Gemini's stop reasons and turnstream's."""

from __future__ import annotations

from turnstream.core.stream_events import MessageStop, StopReason
from turnstream.wires.shared.endings import Ending, ending_of, means_reason, table_of

_ENDINGS = table_of(
    ("end_turn", "stop"),
    ("max_tokens", "max_tokens", "continuation"),
    (
        "content_filtered",
        "safety",
        "recitation",
        "language",
        "blocklist",
        "prohibited_content",
        "spii",
        "escalation",
        "image_safety",
        "image_prohibited_content",
        "image_recitation",
    ),
    ("guardrail_intervened", "model_armor"),
    ("unknown", "other"),
    (
        "failed",
        "malformed_function_call",
        "malformed_response",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "missing_thought_signature",
        "no_image",
        "image_other",
    ),
)
_RAW_REASONS: dict[StopReason, str] = {
    "max_tokens": "MAX_TOKENS",
    "content_filtered": "SAFETY",
    "guardrail_intervened": "MODEL_ARMOR",
    "refusal": "SAFETY",
    "unknown": "OTHER",
}
UNSPECIFIED = frozenset(
    {"", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"}
)
"""Words for a missing reason."""


def parse_ending(raw: str, *, called: bool) -> Ending:
    """Return the meaning of a stop reason. Gemini also sends STOP when the model calls functions."""
    ending = ending_of(raw, _ENDINGS)
    return "tool_use" if called and ending == "end_turn" else ending


def parse_block_reason(raw: str) -> StopReason:
    """Return the stop reason for a blocked prompt."""
    return "guardrail_intervened" if raw.upper() == "MODEL_ARMOR" else "content_filtered"


def dump_stop_reason(stop: MessageStop) -> str:
    """Return Gemini's stop reason. Keep the raw word if it is Gemini's for the same reason."""
    reason, raw = stop.stop_reason, stop.raw_stop_reason
    if raw and raw.isupper():
        # Gemini has no word for an answer that calls functions.
        base_reason: StopReason | None = "end_turn" if reason == "tool_use" else reason
        if means_reason(raw, base_reason, _ENDINGS):
            return raw
    return "STOP" if reason is None else _RAW_REASONS.get(reason, "STOP")
