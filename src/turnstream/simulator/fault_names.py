"""The faults by name, with their descriptions. A module of its own, so that `--help` stays quick."""

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
]

FAULTS: dict[FaultName, str] = {
    "error-before": "an HTTP error in place of the answer: "
    "status=429, retry-after=SECONDS, code=content_filtered",
    "error": "the provider's own error in its stream, after=EVENTS: code=overloaded_error",
    "cut": "the connection is closed after=EVENTS",
    "reset": "the connection is reset: before any header, or after=EVENTS",
    "silence": "nothing more after=EVENTS; ping=SECONDS between pings, which are no output",
    "hang": "the request is taken and never answered, not even with headers",
    "slow-first": "seconds=SECONDS before the first event",
    "malformed": "one event that is none of the wire, after=EVENTS; then the answer continues",
    "huge-event": "one event of size=BYTES without any content, after=EVENTS; then the answer continues",
    "no-end": "the body ends cleanly, without the end marker",
    "no-stream": "an HTTP error (status=400) for every request that asks for a stream; "
    "plain ones are answered",
    "max-tokens": "the model stops after=EVENTS, in the middle of what it was saying: stop reason max_tokens",
}
"""Descriptions of the faults, with their options."""
