"""Faults by model name: `demo:fault=cut,after=20`.

error-before   an HTTP error in place of the stream: `status`, `retry-after`
error          the provider's own error in its stream, after `after` events: `code`
cut            the connection is closed after `after` events
reset          the connection is reset: before any header, or after `after` events
hang           the request is taken and never answered
silence        nothing more after `after` events; `ping` seconds between pings, which are no output
slow-first     `seconds` before the first event
malformed      one event that is none of the wire, after `after` events; then the answer goes on
no-end         the body ends cleanly, without the end marker
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal, TypeAlias

from turnstream.core.stream_events import MessageStop, StreamError, StreamEvent
from turnstream.errors import (
    AuthenticationFailed,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from turnstream.simulator.actions import Action, Cut, Hang, Refuse, Reset, Stall
from turnstream.simulator.options import Options
from turnstream.wires.base import Wire

ErrorKind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]

DEFAULT_AFTER = 5
"""Events before a fault in mid-answer, where `after` is not given."""

MALFORMED = b'data: {"type": "content_block_delta", "index": \n\n'
"""An event whose JSON breaks off."""

_PINGS = {"anthropic": b'event: ping\ndata: {"type": "ping"}\n\n'}
_COMMENT = b": ping\n\n"

_KINDS: dict[str, ErrorKind] = {
    "overloaded_error": "service_unavailable",
    "rate_limit_error": "throttling",
    "invalid_request_error": "validation",
    "api_error": "internal_server",
}
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: InvalidModelRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: ModelNotFound,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}


def instead_of_answer(options: Options, wire: Wire) -> Action | None:
    """What happens in place of an answer."""
    match options.fault:
        case "error-before":
            kind = _BY_STATUS.get(
                options.status, ProviderFailed if options.status >= 500 else InvalidModelRequest
            )
            _, body = wire.encode_error(
                kind(f"simulated error {options.status}", provider_status=options.status)
            )
            headers = {} if options.retry_after is None else {"Retry-After": f"{options.retry_after:g}"}
            return Refuse(options.status, headers, body)
        case "hang":
            return Hang()
        case "reset" if not options.after:
            return Reset()
        case _:
            return None


def spoiled(events: Iterator[StreamEvent], options: Options) -> Iterator[StreamEvent]:
    """The events that are sent before the fault, where it ends the answer."""
    after = DEFAULT_AFTER if options.after is None else options.after
    match options.fault:
        case "cut" | "reset" | "silence":
            return islice(events, after)
        case "error":
            return _reported(islice(events, after), options.code)
        case "no-end":
            return (event for event in events if type(event) is not MessageStop)
        case _:
            return events


def final_action(options: Options, wire: Wire) -> Action | None:
    """What follows the last bytes; None for the end of the body."""
    match options.fault:
        case "cut":
            return Cut()
        case "reset":
            return Reset()
        case "silence":
            return Stall(_PINGS.get(wire.name, _COMMENT), options.ping)
        case _:
            return None


def _reported(events: Iterator[StreamEvent], code: str) -> Iterator[StreamEvent]:
    yield from events
    yield StreamError(_KINDS.get(code, "model_stream"), code, f"simulated {code} in mid-stream")
