"""Faults, chosen by model name (`demo:fault=cut,after=20`) or by header (`X-Simulate: fault=cut,after=20`).

`fault_names.FAULTS` describes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ErrorKind,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    StreamError,
    StreamEvent,
    TextDelta,
)
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from turnstream.simulator import texts
from turnstream.simulator.actions import Action, CutConnection, Hang, Refuse, ResetConnection, Stall
from turnstream.simulator.options import SimulatorOptions
from turnstream.wires.base import ModelRequest, Wire
from turnstream.wires.shared.event_stream import encode_event

DEFAULT_CODE = "overloaded_error"
DEFAULT_AFTER = 5
"""Events before a fault inside the answer, if `after` is not given."""

_MALFORMED = {
    "anthropic": b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": \n\n',
    "openai-chat": b'data: {"object": "chat.completion.chunk", "choices": \n\n',
    "openai-responses": b"event: response.output_text.delta\n"
    b'data: {"type": "response.output_text.delta", "delta": \n\n',
    "ollama": b'{"message": {"role": "assistant", "content": \n',
    "gemini": b'data: {"candidates": [{"content": \n\n',
    "gemini-array": b'{"candidates": [{"content": }]}',
    "bedrock": encode_event("contentBlockDelta", b"{}")[:-1] + b"\0",
}
"""Malformed events: JSON that breaks off, or a message with a wrong checksum."""

_EMPTY_EVENTS = {
    "anthropic": (b'event: ping\ndata: {"type":"ping","filler":"', b'"}\n\n'),
    "openai-chat": (b'data: {"object":"chat.completion.chunk","choices":[],"filler":"', b'"}\n\n'),
    "openai-responses": (
        b'event: keepalive\ndata: {"type":"keepalive","filler":"',
        b'"}\n\n',
    ),
    "ollama": (b'{"message":{"role":"assistant","content":""},"done":false,"filler":"', b'"}\n'),
    "gemini": (b'data: {"candidates":[],"modelVersion":"', b'"}\n\n'),
    "gemini-array": (b'\n,\n{"candidates":[],"modelVersion":"', b'"}'),
}
"""Events without content, as the bytes before and after a filler."""
_FILLER = b"x" * (64 * 1024)

_PINGS = {
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    "ollama": b"\n",
    "gemini-array": b"\n",
    "bedrock": encode_event("ping", b"{}"),
}
_COMMENT = b": ping\n\n"

_KINDS: dict[str, ErrorKind] = {
    "overloaded_error": "service_unavailable",
    "rate_limit_error": "throttling",
    "invalid_request_error": "validation",
    "api_error": "internal_server",
}
_STATUS_OF = {"overloaded_error": 529, "rate_limit_error": 429, "invalid_request_error": 400}
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: InvalidModelRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: ModelNotFound,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}


_BY_CODE: dict[str, type[ProviderError]] = {
    "context_length_exceeded": ContextLengthExceeded,
    "content_filtered": ContentFiltered,
    "not_found_error": ModelNotFound,
    "authentication_error": AuthenticationFailed,
    "insufficient_quota": RateLimited,
}
"""Errors by code, for codes that do not follow from the status."""


def instead_of_answer(options: SimulatorOptions, wire: Wire, request: ModelRequest) -> Action | None:
    """Return the action that replaces the answer, or None."""
    match options.fault:
        case "error-before":
            return refusal(options, wire)
        case "hang":
            return Hang()
        case "reset" if not options.after:
            return ResetConnection()
        case "no-stream" if request.stream:
            return _refused_stream(options, wire)
        case _:
            return None


def _refused_stream(options: SimulatorOptions, wire: Wire) -> Refuse:
    status = options.status if options.status != 500 else 400
    words = InvalidModelRequest("streaming is not supported: set stream to false", provider_status=status)
    return Refuse(status, {}, wire.encode_error(words)[1])


def refusal(options: SimulatorOptions, wire: Wire) -> Refuse:
    """Return the HTTP error of a fault that refuses the request before an answer begins."""
    status = status_of(options)
    kind = _BY_CODE.get(options.code or "") or _BY_STATUS.get(
        status, ProviderFailed if status >= 500 else InvalidModelRequest
    )
    code = options.code if options.code in _BY_CODE else None
    _, body = wire.encode_error(kind(f"simulated error {status}", code=code, provider_status=status))
    headers = {} if options.retry_after is None else {"Retry-After": f"{options.retry_after:g}"}
    return Refuse(status, headers, body)


def with_fault(events: Iterator[StreamEvent], options: SimulatorOptions) -> Iterator[StreamEvent]:
    """Return the events to send, up to the fault if it ends the answer."""
    after = DEFAULT_AFTER if options.after is None else options.after
    match options.fault:
        case "cut" | "reset" | "silence":
            return islice(events, after)
        case "error":
            return chain(islice(events, after), (reported_error(options),))
        case "no-end":
            return (event for event in events if type(event) is not MessageStop)
        case "max-tokens":
            return _truncated_end(events, after)
        case "redact":
            return _withdrawn(events, after)
        case "redact-input":
            return _blocked_input(events)
        case _:
            return events


def inserted(options: SimulatorOptions, wire: Wire) -> Iterator[bytes] | None:
    """Return the bytes of an event that does not belong to the answer, in pieces, or None."""
    match options.fault:
        case "malformed":
            return iter((_MALFORMED[wire.name],))
        case "huge-event":
            return _huge_event(wire, options.size)
        case _:
            return None


def _huge_event(wire: Wire, size: int) -> Iterator[bytes]:
    if wire.name == "bedrock":
        yield encode_event("metadata", b'{"p":"%b"}' % (b"x" * size))
        return
    before, after = _EMPTY_EVENTS[wire.name]
    rest = max(0, size - len(before) - len(after))
    yield before
    while rest:
        yield _FILLER[:rest]
        rest -= min(rest, len(_FILLER))
    yield after


def reported_error(options: SimulatorOptions) -> StreamError:
    """Return the error that a provider reports inside its stream."""
    code = options.code or DEFAULT_CODE
    return StreamError(_KINDS.get(code, "model_stream"), code, f"simulated {code} in mid-stream")


def status_of(options: SimulatorOptions) -> int:
    """Return the HTTP status of an error before the answer."""
    if options.fault == "error-before":
        return options.status
    return _STATUS_OF.get(options.code or DEFAULT_CODE, 500)


def final_action(options: SimulatorOptions, wire: Wire) -> Action | None:
    """Return the action after the last bytes. None: the body ends."""
    match options.fault:
        case "cut":
            return CutConnection()
        case "reset":
            return ResetConnection()
        case "silence":
            return Stall(_PINGS.get(wire.name, _COMMENT), options.ping)
        case _:
            return None


def _truncated_end(events: Iterator[StreamEvent], after: int) -> Iterator[StreamEvent]:
    """Stop as a provider does: stop the open block, then send the usage and the end marker."""
    yield from _until(events, after)
    yield MessageStop("max_tokens")


def _until(events: Iterator[StreamEvent], after: int) -> Iterator[StreamEvent]:
    """Yield the content of the first `after` events, the stop of the open block, and the usage."""
    open_index: int | None = None
    for number, event in enumerate(events):
        if number < after or isinstance(event, MessageStart):
            if isinstance(event, ContentBlockStart):
                open_index = event.index
            elif isinstance(event, ContentBlockStop):
                open_index = None
            yield event
        elif isinstance(event, Metadata):
            yield event
    if open_index is not None:
        yield ContentBlockStop(open_index)


def _withdrawn(events: Iterator[StreamEvent], after: int) -> Iterator[StreamEvent]:
    """Withdraw what was sent, and stop as a provider does whose guardrail intervened."""
    yield from _until(events, after)
    yield RedactContent("assistant", texts.WITHDRAWN)
    yield MessageStop("guardrail_intervened")


def _blocked_input(events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
    """Answer with a guardrail's message in place of the model's content."""
    yield from _until(events, 0)
    yield ContentBlockStart(0, "text")
    yield TextDelta(0, texts.WITHDRAWN)
    yield ContentBlockStop(0)
    yield RedactContent("user", texts.WITHDRAWN)
    yield MessageStop("guardrail_intervened")
