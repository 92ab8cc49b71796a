"""What an error of an Ollama server means.

Ollama says `{"error": "…"}`, in a body or as a line of a stream: words, and a status outside of streams. Some servers
add the status to the line. The provider's words may hold anything: they go into `detail`, or into a StreamError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

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
from turnstream.wires.shared.context_overflow import means_overflow
from turnstream.wires.shared.failure_shapes import http_status, words_of
from turnstream.wires.shared.failure_words import class_in_words
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.shared.retry_after import retry_after

ErrorKind: TypeAlias = Literal["internal_server", "service_unavailable", "throttling", "validation"]

_WORDS_LIMIT = 4000
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: RateLimited,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
    529: Overloaded,
}
_BY_WORDS: tuple[tuple[str, type[ProviderError]], ...] = (
    ("unauthorized", AuthenticationFailed),
    ("server busy", Overloaded),
    ("overloaded", Overloaded),
    ("rate limit", RateLimited),
    ("usage limit", RateLimited),
    ("timed out", ProviderTimeout),
    ("does not support", InvalidModelRequest),
    ("not found", ModelNotFound),
    ("invalid", InvalidModelRequest),
)
_STATUSES: tuple[tuple[type[ProviderError], int], ...] = (
    (AuthenticationFailed, 401),
    (PermissionDenied, 403),
    (ModelNotFound, 404),
    (InvalidModelRequest, 400),
    (ContentFiltered, 400),
    (RateLimited, 429),
    (Overloaded, 503),
    (ProviderTimeout, 504),
)
_KINDS: dict[type[ProviderError], ErrorKind] = {
    RateLimited: "throttling",
    Overloaded: "service_unavailable",
    ProviderTimeout: "service_unavailable",
    ProviderFailed: "internal_server",
}
_MESSAGES: dict[type[ProviderError], str] = {
    AuthenticationFailed: "the provider refused the key",
    PermissionDenied: "the key may not use this model",
    ModelNotFound: "the provider does not have this model",
    InvalidModelRequest: "the provider refused the request",
    ContextLengthExceeded: "the conversation is longer than the model's context",
    RateLimited: "the provider's rate limit is reached",
    Overloaded: "the provider is overloaded",
    ProviderFailed: "the provider failed",
    ProviderTimeout: "the provider took too long",
}


def classify(words: str, status: int | None) -> type[ProviderError]:
    """Our class for a failure: by status, except where it says no more than whose fault it is; then by words."""
    by_status = _BY_STATUS.get(status or 0)
    if by_status is not None:
        return by_status
    if means_overflow(words):
        return ContextLengthExceeded
    if status is not None and 400 <= status < 500:
        return InvalidModelRequest
    lowered = words.lower()
    by_words = next((found for part, found in _BY_WORDS if part in lowered), None)
    return by_words or class_in_words(words) or ProviderFailed


def stream_error(value: JsonObject) -> StreamError:
    """The StreamEvent of a line that reports a failure. `value` has `error`."""
    words, status = _read(value)
    found = classify(words, status)
    return StreamError(_KINDS.get(found, "validation"), found.code, words, status)


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of a response whose status is not 2xx."""
    words = ""
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError):
        value = None
    if is_object(value) and value.get("error"):
        words, _ = _read(value)
    words = words or body[:_WORDS_LIMIT].decode("utf-8", "replace").strip()
    found = classify(words, status)
    return found(
        _MESSAGES[found], provider_status=status, detail=words or None, retry_after=retry_after(headers)
    )


def encode_error(error: ProviderError) -> tuple[int, bytes]:
    """Status and body with which Ollama reports `error`."""
    return _status_of(type(error)), encode_json({"error": _spoken(error.code, error.message)})


def error_line(code: str, message: str) -> bytes:
    """The line with which a stream fails. `code` is ours; the status says what Ollama's words need not."""
    found = next((kind for kind, _ in _STATUSES if kind.code == code), None)
    status = {} if found is None else {"status": _status_of(found)}
    return encode_json({"error": _spoken(code, message), **status}) + b"\n"


def _spoken(code: str, message: str) -> str:
    """`message`, in words that tell what no status does."""
    if code == ContextLengthExceeded.code and not means_overflow(message):
        return f"context length exceeded: {message}"
    return message


def _status_of(kind: type[ProviderError]) -> int:
    return next((status for found, status in _STATUSES if issubclass(kind, found)), 500)


def _read(value: JsonObject) -> tuple[str, int | None]:
    """The words and the status of `value`, whose `error` is text, or an object as other servers write it."""
    inner = value["error"]
    words = words_of(inner)
    if words is None:
        words = encode_json(inner).decode("utf-8", "replace")
    status = (http_status(inner) if is_object(inner) else None) or http_status(value)
    return words[:_WORDS_LIMIT], status
