"""What an error of the Gemini API means, and how it is written.

Google's APIs say `{"error": {"code", "message", "status", "details"}}`, `code` being the HTTP status and `status` the name
of a `google.rpc.Code`; alone, as an event, or as the only element of a list. Among the details are a `RetryInfo` with the
time to wait, a `QuotaFailure`, an `ErrorInfo` with a reason. The provider's words may hold anything: they go into `detail`,
or into a StreamError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from turnstream.core.stream_events import StreamError
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
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.gemini.chunks import objects_in, text_in
from turnstream.wires.shared.context_overflow import means_overflow
from turnstream.wires.shared.failure_shapes import http_status, words_of
from turnstream.wires.shared.failure_words import class_in_words
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.shared.retry_after import retry_after

ErrorKind: TypeAlias = Literal["internal_server", "service_unavailable", "throttling", "validation"]

_WORDS_LIMIT = 4000
_BY_STATUS: dict[str, type[ProviderError]] = {
    "UNAUTHENTICATED": AuthenticationFailed,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": ModelNotFound,
    "INVALID_ARGUMENT": InvalidModelRequest,
    "FAILED_PRECONDITION": InvalidModelRequest,
    "OUT_OF_RANGE": InvalidModelRequest,
    "UNIMPLEMENTED": InvalidModelRequest,
    "ALREADY_EXISTS": InvalidModelRequest,
    "RESOURCE_EXHAUSTED": RateLimited,
    "UNAVAILABLE": Overloaded,
    "DEADLINE_EXCEEDED": ProviderTimeout,
    "INTERNAL": ProviderFailed,
    "UNKNOWN": ProviderFailed,
    "ABORTED": ProviderFailed,
    "CANCELLED": ProviderFailed,
    "DATA_LOSS": ProviderFailed,
}
_BY_CODE: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
    529: Overloaded,
}
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"})
_SPOKEN: tuple[tuple[type[ProviderError], int, str], ...] = (
    (AuthenticationFailed, 401, "UNAUTHENTICATED"),
    (PermissionDenied, 403, "PERMISSION_DENIED"),
    (ModelNotFound, 404, "NOT_FOUND"),
    (InvalidModelRequest, 400, "INVALID_ARGUMENT"),
    (ContentFiltered, 400, "INVALID_ARGUMENT"),
    (RateLimited, 429, "RESOURCE_EXHAUSTED"),
    (Overloaded, 503, "UNAVAILABLE"),
    (ProviderTimeout, 504, "DEADLINE_EXCEEDED"),
)
_KINDS: dict[type[ProviderError], ErrorKind] = {
    RateLimited: "throttling",
    Overloaded: "service_unavailable",
    ProviderTimeout: "service_unavailable",
    ProviderFailed: "internal_server",
}
_MESSAGES: dict[type[ProviderError], str] = {
    AuthenticationFailed: "the provider refused the key",
    PermissionDenied: "the key may not do this",
    ModelNotFound: "the provider does not know this model",
    InvalidModelRequest: "the provider refused the request",
    ContextLengthExceeded: "the conversation is longer than the model's context",
    RateLimited: "the provider's rate limit is reached",
    Overloaded: "the provider is overloaded",
    ProviderFailed: "the provider failed",
    ProviderTimeout: "the provider took too long",
}
_CONTEXT_PREFIX = "the input token count exceeds the maximum number of tokens allowed"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


class _ReportedFields(NamedTuple):
    words: str
    status: str = ""
    code: int | None = None
    reasons: frozenset[str] = frozenset()
    retry_after: float | None = None


def stream_error(error: Any) -> StreamError:
    """The StreamEvent of a failure reported inside a stream. `error` is what stands under that name."""
    reported = _read(error)
    found = _classify(reported, reported.code)
    return StreamError(_KINDS.get(found, "validation"), found.code, reported.words, reported.code)


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of a response whose status is not 2xx."""
    reported: _ReportedFields | None = None
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError):
        value = None
    if is_list(value) and value:
        value = value[0]
    if is_object(value) and value.get("error"):
        reported = _read(value["error"])
    if reported is None:
        reported = _ReportedFields(body[:_WORDS_LIMIT].decode("utf-8", "replace").strip())
    found = _classify(reported, status)
    waits = reported.retry_after if reported.retry_after is not None else retry_after(headers)
    return found(_MESSAGES[found], provider_status=status, detail=reported.words or None, retry_after=waits)


def encode_error(error: ProviderError) -> tuple[int, bytes]:
    """Status and body with which Google's API reports `error`."""
    spoken = next((spoken for spoken in _SPOKEN if isinstance(error, spoken[0])), None)
    _, code, status = spoken or (None, 500, "INTERNAL")
    body = _error_object(code, status, _words(error.code, error.message))
    if error.retry_after is not None:
        body["details"] = [{"@type": _RETRY_INFO, "retryDelay": f"{error.retry_after:g}s"}]
    return code, encode_json({"error": body})


def error_object(error: StreamError) -> JsonObject:
    """The JSON of the event with which a stream fails. Its `code` is ours."""
    if error.code == ContextLengthExceeded.code:
        code, status = 400, "INVALID_ARGUMENT"
    else:
        named = (spoken[1:] for spoken in _SPOKEN if spoken[0].code == error.code)
        code, status = next(named, (500, "INTERNAL"))
    return {"error": _error_object(error.provider_status or code, status, _words(error.code, error.message))}


def _error_object(code: int, status: str, message: str) -> JsonObject:
    return {"code": code, "message": message, "status": status}


def _words(code: str, message: str) -> str:
    """`message`, in words that tell what no status does."""
    if code == ContextLengthExceeded.code and not means_overflow(message):
        return f"{_CONTEXT_PREFIX}: {message}"
    return message


def _classify(reported: _ReportedFields, code: int | None) -> type[ProviderError]:
    """Our class for a failure: by the name of its status, else by its number."""
    found = _BY_STATUS.get(reported.status) or _BY_CODE.get(code or 0)
    if found is None and code is None:
        found = class_in_words(reported.words)
    if found is None:
        found = InvalidModelRequest if code is not None and 400 <= code < 500 else ProviderFailed
    if found is InvalidModelRequest:
        if reported.reasons & _KEY_REASONS or "api key not valid" in reported.words.lower():
            return AuthenticationFailed
        if means_overflow(reported.words):
            return ContextLengthExceeded
    return found


def _read(error: Any) -> _ReportedFields:
    """The failure in the provider's own words: of an object, of text, or of anything else."""
    if not is_object(error):
        words = error if isinstance(error, str) else _compact(error)
        return _ReportedFields(words[:_WORDS_LIMIT])
    code = http_status(error)
    words = words_of(error) or _compact(error)
    details = objects_in(error.get("details"))
    delays = (_seconds(detail.get("retryDelay")) for detail in details)
    return _ReportedFields(
        words[:_WORDS_LIMIT],
        text_in(error.get("status")),
        code,
        frozenset(text_in(detail.get("reason")) for detail in details),
        next((delay for delay in delays if delay is not None), None),
    )


def _compact(value: Any) -> str:
    return encode_json(value).decode("utf-8", "replace")


def _seconds(value: Any) -> float | None:
    """A `google.protobuf.Duration`: `"37s"`, `"0.5s"`."""
    return _number(value[:-1]) if isinstance(value, str) and value.endswith("s") else None


def _number(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
