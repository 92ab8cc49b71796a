"""The faults by name, with their descriptions. They are a separate module so that `--help` is quick."""

from __future__ import annotations

from typing import Literal, TypeAlias

FaultName: TypeAlias = Literal[
    "error-before",
    "error",
    "cut",
    "reset",
    "silence",
    "hang",
    "slow-first",
    "malformed",
    "huge-event",
    "no-end",
    "max-tokens",
    "no-stream",
    "redact",
    "redact-input",
]

FAULTS: dict[FaultName, str] = {
    "error-before": "an HTTP error in place of the answer: "
    "status=429, retry-after=SECONDS, code=content_filtered",
    "error": "the provider's own error in its stream, after=EVENTS: code=overloaded_error",
    "cut": "the connection is closed after=EVENTS",
    "reset": "the connection is reset: before any header, or after=EVENTS",
    "silence": "no more events after=EVENTS; ping=SECONDS sends pings, which are not output",
    "hang": "the request is read and never answered, not even with headers",
    "slow-first": "seconds=SECONDS before the first event",
    "malformed": "one malformed event after=EVENTS; then the answer continues",
    "huge-event": "one event of size=BYTES without any content, after=EVENTS; then the answer continues",
    "no-end": "the body ends cleanly, without the end marker",
    "no-stream": "an HTTP error (status=400) for every request that asks for a stream; "
    "other requests are answered",
    "redact": "the provider withdraws its answer after=EVENTS: a guardrail of Bedrock, or a filter of Azure "
    "(wire openai-chat) or Gemini",
    "redact-input": "a guardrail of Bedrock blocks the user's message, and answers with its own",
    "max-tokens": "the model stops after=EVENTS, in the middle of its answer: stop reason max_tokens",
}
"""Descriptions of the faults, with their options."""

MODEL_ENDINGS: frozenset[FaultName | None] = frozenset({"max-tokens", "redact", "redact-input"})
"""Faults that end the model's answer. The stream itself ends as usual."""

REDACTING_WIRES: dict[FaultName | None, tuple[str, ...]] = {
    "redact": ("openai-chat", "bedrock", "gemini", "gemini-array"),
    "redact-input": ("bedrock",),
}
"""Wires that can express a redaction."""
