"""What an error of an OpenAI-like provider means, in whatever shape it is written. The wires
`openai-chat` and `openai-responses` share it: their errors are the same.

    read_error()    any JSON that reports a failure  →  its words, type, code and status
    classify()      those                            →  our exception class

The provider's words may hold anything: they go into `detail`, or into a StreamError, never into `message`.
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
from turnstream.wires.shared.context_overflow import means_overflow
from turnstream.wires.shared.failure_shapes import failure_in
from turnstream.wires.shared.failure_words import class_in_words
from turnstream.wires.shared.json_values import as_text, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.shared.retry_after import retry_after

ErrorKind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]
QUOTA_CODE = "insufficient_quota"

_WORDS_LIMIT = 4000
_BY_TOKEN: dict[str, type[ProviderError]] = {
    "tokens": RateLimited,
    "requests": RateLimited,
    "tokens_limit_reached": ContextLengthExceeded,
    "data_inspection_failed": ContentFiltered,
    "insufficient_system_resource": Overloaded,
    "network_error": ProviderFailed,
    "sensitive": ContentFiltered,
    "bio_policy": ContentFiltered,
    "misalignment_policy_violation": ContentFiltered,
}
_BY_PART: tuple[tuple[str, type[ProviderError]], ...] = (
    ("context_length", ContextLengthExceeded),
    ("context_window", ContextLengthExceeded),
    ("context_size", ContextLengthExceeded),
    ("max_prompt_tokens_exceeded", ContextLengthExceeded),
    ("content_filter", ContentFiltered),
    ("content_policy", ContentFiltered),
    ("api_key", AuthenticationFailed),
    ("authentication", AuthenticationFailed),
    ("unauthorized", AuthenticationFailed),
    ("permission", PermissionDenied),
    ("forbidden", PermissionDenied),
    ("access_denied", PermissionDenied),
    ("not_found", ModelNotFound),
    ("rate_limit", RateLimited),
    ("too_many_requests", RateLimited),
    ("quota", RateLimited),
    ("billing", RateLimited),
    ("insufficient_balance", RateLimited),
    ("throttl", RateLimited),
    ("overloaded", Overloaded),
    ("unavailable", Overloaded),
    ("timeout", ProviderTimeout),
    ("invalid", InvalidModelRequest),
    ("bad_request", InvalidModelRequest),
    ("badrequest", InvalidModelRequest),
    ("validation", InvalidModelRequest),
    ("unsupported", InvalidModelRequest),
    ("server_error", ProviderFailed),
    ("internal", ProviderFailed),
    ("upstream", ProviderFailed),
)
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: InvalidModelRequest,
    401: AuthenticationFailed,
    402: RateLimited,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    409: InvalidModelRequest,
    413: InvalidModelRequest,
    422: InvalidModelRequest,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
    524: ProviderTimeout,
    529: Overloaded,
}
_VAGUE = (None, InvalidModelRequest, ProviderFailed)
"""Codes, types and statuses that mean a conversation that is too long."""
_NOT_ONLY_WORDS = frozenset({"id", "object", "created", "model", "choices", "usage", "type", "event"})
"""Fields of an event that may hold words and be no error."""
_QUOTA_PARTS = ("quota", "billing", "insufficient_balance")
_KINDS: dict[type[ProviderError], ErrorKind] = {
    RateLimited: "throttling",
    Overloaded: "service_unavailable",
    ProviderTimeout: "service_unavailable",
    ProviderFailed: "internal_server",
}
_MESSAGES: dict[type[ProviderError], str] = {
    AuthenticationFailed: "the provider refused the key",
    PermissionDenied: "the key may not use this model",
    ModelNotFound: "the provider does not know this model",
    InvalidModelRequest: "the provider refused the request",
    ContextLengthExceeded: "the conversation is longer than the model's context",
    ContentFiltered: "the provider's content filter refused the request",
    RateLimited: "the provider's rate limit is reached",
    Overloaded: "the provider is overloaded",
    ProviderFailed: "the provider failed",
    ProviderTimeout: "the provider took too long",
}
_SPOKEN: dict[type[ProviderError], tuple[int, str, str | None]] = {
    AuthenticationFailed: (401, "invalid_request_error", "invalid_api_key"),
    PermissionDenied: (403, "permission_error", "permission_denied"),
    ModelNotFound: (404, "invalid_request_error", "model_not_found"),
    ContextLengthExceeded: (400, "invalid_request_error", "context_length_exceeded"),
    InvalidModelRequest: (400, "invalid_request_error", None),
    ContentFiltered: (400, "invalid_request_error", "content_filter"),
    RateLimited: (429, "rate_limit_error", "rate_limit_exceeded"),
    Overloaded: (503, "overloaded_error", "overloaded"),
    ProviderTimeout: (504, "timeout_error", "timeout"),
}


class ReportedError(NamedTuple):
    """A failure in the provider's own words."""

    words: str
    type: str = ""
    code: str = ""
    status: int | None = None


def read_error(value: Any) -> ReportedError | None:
    """What `value`, the JSON of an event or of a body, reports; None where it reports no failure."""
    if is_list(value) and len(value) == 1:
        value = value[0]
    if not is_object(value):
        return None
    inner = value.get("error") or value.get("errors")
    if is_list(inner) and inner and is_object(inner[0]):
        inner = inner[0]
    outer = _read_fields(value)
    if is_object(inner) and inner:
        found = _read_fields(inner)
        words = _with_upstream(found.words or _compact(inner), inner.get("metadata"))
        return ReportedError(words, found.type, found.code or outer.code, found.status or outer.status)
    if inner or value.get("object") == "error" or value.get("type") == "error":
        words = inner if isinstance(inner, str) else outer.words or _compact(value)
        return ReportedError(words[:_WORDS_LIMIT], outer.type, outer.code, outer.status)
    if is_object(base := value.get("base_resp")) and base.get("status_code"):
        return ReportedError(as_text(base.get("status_msg")) or "", code=as_text(base["status_code"]) or "")
    if value.get("choices"):
        return None
    if outer.words and (outer.code or outer.status or "detail" in value):
        return outer
    if not _NOT_ONLY_WORDS.isdisjoint(value) or (failure := failure_in(value)) is None:
        return None
    return outer if outer.words else _read_fields(failure["error"])


def classify(reported: ReportedError) -> type[ProviderError]:
    """Our class for it: by the provider's code and type, then by status, then by its words."""
    by_status = _BY_STATUS.get(reported.status or 0)
    vague: type[ProviderError] | None = None
    for token in (reported.code.lower(), reported.type.lower()):
        found = _class_of_token(token)
        if found is ProviderFailed and means_overflow(reported.words):
            return ContextLengthExceeded
        if found is not None and found is not InvalidModelRequest:
            return found
        vague = vague or found
    found = by_status or vague
    if found in _VAGUE and means_overflow(reported.words):
        return ContextLengthExceeded
    if found is None and reported.status is not None and 400 <= reported.status < 500:
        return InvalidModelRequest
    return found or class_in_words(reported.words) or ProviderFailed


def stream_error(reported: ReportedError) -> StreamError:
    """The StreamEvent of a failure reported inside a stream."""
    found = classify(reported)
    kind: ErrorKind = (
        "model_stream" if reported.code == "tool_use_failed" else _KINDS.get(found, "validation")
    )
    return StreamError(kind, _code_of(reported, found), reported.words, reported.status)


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of a response whose status is not 2xx."""
    reported: ReportedError | None = None
    try:
        reported = read_error(mend_surrogates(decode_json(body)))
    except (ValueError, RecursionError):
        reported = None
    if reported is None:
        reported = ReportedError(body[:_WORDS_LIMIT].decode("utf-8", "replace").strip())
    reported = reported._replace(status=status)
    found = classify(reported)
    code = _code_of(reported, found)
    return found(
        _MESSAGES[found],
        code=code,
        retryable=False if code == QUOTA_CODE else None,
        provider_status=status,
        detail=reported.words or None,
        retry_after=retry_after(headers),
    )


def encode_error(error: ProviderError) -> tuple[int, bytes]:
    """Status and body with which such a provider reports `error`."""
    status, body = _spoken(error)
    return status, encode_json(body)


def error_object(code: str, message: str) -> dict[str, Any]:
    """The JSON of the event with which a stream fails. `code` is ours."""
    for found, (_, kind, spoken) in _SPOKEN.items():
        if found.code == code:
            return {"error": {"message": message, "type": kind, "param": None, "code": spoken}}
    kind = "server_error" if code == ProviderFailed.code else code
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _spoken(error: ProviderError) -> tuple[int, dict[str, Any]]:
    status, kind, code = next(
        (spoken for found, spoken in _SPOKEN.items() if isinstance(error, found)), (500, "server_error", None)
    )
    if error.code == QUOTA_CODE:
        kind = code = QUOTA_CODE
    return status, {"error": {"message": error.message, "type": kind, "param": None, "code": code}}


def _read_fields(value: dict[str, Any]) -> ReportedError:
    words = ""
    for name in ("message", "error_msg", "error_message", "msg", "detail"):
        if (found := value.get(name)) is not None:
            words = found if isinstance(found, str) else _compact(found)
            break
    code = value.get("code", value.get("error_code"))
    status: int | None = None
    for number in (value.get("status_code"), value.get("status"), value.get("http_code"), code):
        status = status or _http_status(number)
    if _http_status(code):
        code = None
    kind = as_text(value.get("type")) or as_text(value.get("error_type")) or ""
    return ReportedError(words[:_WORDS_LIMIT], "" if kind == "error" else kind, as_text(code) or "", status)


def _with_upstream(words: str, metadata: Any) -> str:
    """Return a gateway's words with those of the provider behind it, which OpenRouter keeps in `metadata.raw`."""
    raw = metadata.get("raw") if is_object(metadata) else None
    if raw is None or raw == "":
        return words
    said = raw if isinstance(raw, str) else _compact(raw)
    return f"{words}: {said}"[:_WORDS_LIMIT]


def _http_status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _class_of_token(token: str) -> type[ProviderError] | None:
    if not token:
        return None
    token = token.replace("-", "_").replace(" ", "_")
    return _BY_TOKEN.get(token) or next((found for part, found in _BY_PART if part in token), None)


def _code_of(reported: ReportedError, found: type[ProviderError]) -> str:
    """The code that clients see. A quota that is used up is no rate limit that passes."""
    tokens = (reported.code.lower(), reported.type.lower())
    spent = any(part in token for part in _QUOTA_PARTS for token in tokens)
    return QUOTA_CODE if found is RateLimited and (spent or reported.status == 402) else found.code


def _compact(value: Any) -> str:
    return encode_json(value).decode("utf-8", "replace")[:_WORDS_LIMIT]
