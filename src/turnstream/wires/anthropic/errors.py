"""Anthropic's errors, in its stream and as HTTP answers, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
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
from turnstream.wires.shared.json_values import is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.shared.retry_after import retry_after

Kind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]


class _Error(NamedTuple):
    status: int
    kind: Kind
    error: type[ProviderError]
    message: str


_ERRORS: dict[str, _Error] = {
    "invalid_request_error": _Error(
        400, "validation", InvalidModelRequest, "the provider refused the request"
    ),
    "authentication_error": _Error(
        401, "validation", AuthenticationFailed, "the provider refused the API key"
    ),
    "billing_error": _Error(
        402, "validation", PermissionDenied, "the provider's account cannot pay for the call"
    ),
    "permission_error": _Error(403, "validation", PermissionDenied, "the API key may not do this"),
    "not_found_error": _Error(404, "validation", ModelNotFound, "the provider does not know the model"),
    "request_too_large": _Error(
        413, "validation", InvalidModelRequest, "the request is too large for the provider"
    ),
    "rate_limit_error": _Error(429, "throttling", RateLimited, "the provider's rate limit is reached"),
    "api_error": _Error(500, "internal_server", ProviderFailed, "the provider failed"),
    "timeout_error": _Error(504, "service_unavailable", ProviderTimeout, "the provider took too long"),
    "overloaded_error": _Error(529, "service_unavailable", Overloaded, "the provider is overloaded"),
}
_BY_STATUS = {entry.status: name for name, entry in _ERRORS.items()}
_BY_ANY_STATUS = {**_BY_STATUS, 408: "timeout_error", 503: "overloaded_error"}
"""Statuses that a proxy names inside the stream."""
_TELLING = frozenset(_ERRORS) - {"invalid_request_error", "request_too_large", "api_error"}
"""Types that say what is wrong. Words are not asked then."""
_CONTEXT_LENGTH = "prompt is too long"
_CONTEXT_LENGTH_CODE = ContextLengthExceeded.code
_LONGEST_DETAIL = 2000


def parse_stream_error(value: Any) -> StreamError:
    """The error that one event of a stream reports. `value` is its decoded data, or its text where that is not JSON.

    Shapes seen: `{"type": "error", "error": {"type", "message"}}`, the same without the outer type, `error` as
    bare text, the inner object alone, and text. Without a type of Anthropic's, the status decides, then the words.
    """
    kind, message = _kind_and_message(value)
    status = _status_of(value)
    if kind not in _ERRORS:
        said = class_in_words(message) if status is None else None
        kind = said.code if said is not None else _BY_ANY_STATUS.get(status or 0, kind)
    code = kind or "api_error"
    if code == _CONTEXT_LENGTH_CODE or _means_context_length(code, message):
        return StreamError("validation", _CONTEXT_LENGTH_CODE, message, status)
    known = _ERRORS.get(code)
    return StreamError(known.kind if known else "model_stream", code, message, status)


def dump_stream_error(error: StreamError) -> dict[str, Any]:
    """The data of the `error` event that stands for `error`."""
    code, message = _wire_error(error.code, error.message)
    return {"type": "error", "error": {"type": code, "message": message}}


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of an answer other than 2xx. The error's type decides, and the status where there is none."""
    try:
        value: Any = mend_surrogates(decode_json(body))
    except ValueError:
        value = body.decode(errors="replace")
    kind, detail = _kind_and_message(value)
    detail = detail[:_LONGEST_DETAIL]
    given = kind
    if kind not in _ERRORS:
        kind = _BY_STATUS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    entry = _ERRORS[kind]
    error_class, message = entry.error, entry.message
    if kind not in _TELLING and means_overflow(given or "", detail):
        error_class, message = ContextLengthExceeded, "the conversation is longer than the model's context"
    return error_class(
        f"{message} (HTTP {status})",
        provider_status=status,
        detail=detail or None,
        retry_after=retry_after(headers),
    )


def encode_error(error: ProviderError) -> tuple[int, bytes]:
    """Status and body with which this API would report `error`."""
    code, message = _wire_error(error.code, error.message)
    known = _ERRORS.get(code)
    if known is None:
        code, known = "api_error", _ERRORS["api_error"]
    return known.status, encode_json({"type": "error", "error": {"type": code, "message": message}})


def _wire_error(code: str, message: str) -> tuple[str, str]:
    if code == _CONTEXT_LENGTH_CODE:
        says_so = means_overflow(message)
        return "invalid_request_error", message if says_so else f"{_CONTEXT_LENGTH}: {message}"
    return code, message


def _means_context_length(code: str, message: str) -> bool:
    return code not in _TELLING and means_overflow(code, message)


def _kind_and_message(value: Any) -> tuple[str | None, str]:
    if isinstance(value, str):
        return None, value.strip()
    if not isinstance(value, dict):
        return None, encode_json(value).decode()
    outer = cast(dict[str, Any], value)
    inner: Any = outer.get("error", outer)
    if not isinstance(inner, dict):
        return _word(outer.get("type")), inner if isinstance(inner, str) else encode_json(inner).decode()
    error = cast(dict[str, Any], inner)
    text = words_of(error)
    if text is None:
        message = error.get("message")
        text = encode_json(error if message is None else message).decode()
    return _word(error.get("type")) or _word(error.get("code")), text


def _status_of(value: Any) -> int | None:
    if not is_object(value):
        return None
    inner = value.get("error")
    return (http_status(inner) if is_object(inner) else None) or http_status(value)


def _word(value: Any) -> str | None:
    """An error's type, where it is one: the outer `error` says nothing."""
    return value if isinstance(value, str) and value.isidentifier() and value != "error" else None
