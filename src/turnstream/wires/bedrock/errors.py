"""Bedrock's errors, in its stream and as HTTP answers, in both directions.

An exception has one name everywhere: `ThrottlingException` in an answer's header `x-amzn-errortype` or in its body's
`__type`, `throttlingException` in a stream. The signature's own errors come from the layer before the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, cast

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
from turnstream.wires.shared.lenient_json import decode_json, encode_json, mend_surrogates
from turnstream.wires.shared.retry_after import retry_after

Kind: TypeAlias = Literal[
    "internal_server", "service_unavailable", "throttling", "validation", "model_stream"
]


class _Exception(NamedTuple):
    status: int
    kind: Kind
    error: type[ProviderError]


_EXCEPTIONS: dict[str, _Exception] = {
    "ValidationException": _Exception(400, "validation", InvalidModelRequest),
    "ConflictException": _Exception(400, "validation", InvalidModelRequest),
    "SerializationException": _Exception(400, "validation", InvalidModelRequest),
    "AccessDeniedException": _Exception(403, "validation", PermissionDenied),
    "ResourceNotFoundException": _Exception(404, "validation", ModelNotFound),
    "ThrottlingException": _Exception(429, "throttling", RateLimited),
    "TooManyRequestsException": _Exception(429, "throttling", RateLimited),
    "ServiceQuotaExceededException": _Exception(400, "throttling", RateLimited),
    "ModelNotReadyException": _Exception(429, "service_unavailable", Overloaded),
    "ServiceUnavailableException": _Exception(503, "service_unavailable", Overloaded),
    "ModelTimeoutException": _Exception(408, "service_unavailable", ProviderTimeout),
    "InternalServerException": _Exception(500, "internal_server", ProviderFailed),
    "InternalFailure": _Exception(500, "internal_server", ProviderFailed),
    "ModelErrorException": _Exception(424, "model_stream", ProviderFailed),
    "ModelStreamErrorException": _Exception(424, "model_stream", ProviderFailed),
}
_SIGNATURE_ERRORS = frozenset(
    {
        "ExpiredToken", "IncompleteSignature", "InvalidClientTokenId", "InvalidSignature", "MissingAuthenticationToken",
        "NotAuthorized", "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClient",
    }
)  # fmt: skip
"""Names of what is wrong with credentials; each is also seen with `Exception` behind it."""
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
}
_MESSAGES: dict[type[ProviderError], str] = {
    AuthenticationFailed: "the provider refused the credentials",
    PermissionDenied: "the credentials may not use this model",
    ModelNotFound: "the provider does not know the model",
    InvalidModelRequest: "the provider refused the request",
    ContextLengthExceeded: "the conversation is longer than the model's context",
    RateLimited: "the provider's rate limit is reached",
    Overloaded: "the provider is overloaded",
    ProviderTimeout: "the provider took too long",
    ProviderFailed: "the provider failed",
}
_NAMES: tuple[tuple[type[ProviderError], str], ...] = (
    (AuthenticationFailed, "UnrecognizedClientException"),
    (PermissionDenied, "AccessDeniedException"),
    (ModelNotFound, "ResourceNotFoundException"),
    (InvalidModelRequest, "ValidationException"),
    (ContentFiltered, "ValidationException"),
    (RateLimited, "ThrottlingException"),
    (Overloaded, "ServiceUnavailableException"),
    (ProviderTimeout, "ModelTimeoutException"),
)
_STREAM_NAMES: dict[Kind, str] = {
    "internal_server": "internalServerException",
    "service_unavailable": "serviceUnavailableException",
    "throttling": "throttlingException",
    "validation": "validationException",
    "model_stream": "modelStreamErrorException",
}
_TOO_LONG = "Input is too long for requested model."
_UNKNOWN_MODEL = "model identifier is invalid"
_LONGEST_DETAIL = 2000


def parse_stream_error(headers: Mapping[str, Any], payload: bytes) -> StreamError:
    """The error that one message of a stream reports: an exception, or an error without a shape of its own."""
    fields = _fields_of(payload)
    name = _text(headers, ":exception-type") or _text(headers, ":error-code")
    message = _message_of(fields) or _text(headers, ":error-message") or payload.decode(errors="replace")
    exception = _EXCEPTIONS.get(name[:1].upper() + name[1:])
    original = fields.get("originalStatusCode")
    status = original if type(original) is int else None
    message = _text(fields, "originalMessage") or message
    error = _meaning(name, message, exception.error if exception else ProviderFailed)
    kind: Kind = exception.kind if exception else "model_stream"
    return StreamError(kind, error.code, message, status)


def dump_stream_error(error: StreamError) -> tuple[str, dict[str, Any]]:
    """The name and the payload of the exception that stands for `error`."""
    message = _telling(error.code, error.message)
    fields: dict[str, Any] = {"message": message}
    if error.kind == "model_stream":
        fields["originalMessage"] = message
        if error.provider_status is not None:
            fields["originalStatusCode"] = error.provider_status
    return _STREAM_NAMES[error.kind], fields


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of an answer other than 2xx. The exception's name decides, and the status where there is none."""
    fields = _fields_of(body)
    name = _name_of(headers, fields)
    detail = (_message_of(fields) or body.decode(errors="replace").strip())[:_LONGEST_DETAIL]
    exception = _EXCEPTIONS.get(name)
    fallback = _BY_STATUS.get(status, InvalidModelRequest if status < 500 else ProviderFailed)
    error = _meaning(name, detail, exception.error if exception else fallback)
    return error(
        f"{_MESSAGES[error]} (HTTP {status})",
        provider_status=status,
        detail=detail or None,
        retry_after=retry_after(headers),
        retryable=False if name == "ServiceQuotaExceededException" else None,
    )


def encode_error(error: ProviderError) -> tuple[int, bytes]:
    """Status and body with which this API would report `error`."""
    found = (name for kind, name in _NAMES if isinstance(error, kind))
    name = next(found, "InternalServerException")
    status = _EXCEPTIONS[name].status if name in _EXCEPTIONS else 403
    return status, encode_json({"__type": name, "message": _telling(error.code, error.message)})


def _meaning(name: str, message: str, error: type[ProviderError]) -> type[ProviderError]:
    """What is meant by an exception of this name and these words; `error` where they add nothing."""
    said = message.lower()
    if name.removesuffix("Exception") in _SIGNATURE_ERRORS:
        return AuthenticationFailed
    if error is PermissionDenied and said.startswith("authentication failed"):
        return AuthenticationFailed
    if error is InvalidModelRequest and _UNKNOWN_MODEL in said:
        return ModelNotFound
    if error in (InvalidModelRequest, ProviderFailed) and means_overflow(message):
        return ContextLengthExceeded
    return error


def _telling(code: str, message: str) -> str:
    """The message, in words from which a context that is too long is told apart."""
    if code != ContextLengthExceeded.code or means_overflow(message):
        return message
    return f"{_TOO_LONG} {message}"


def _name_of(headers: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    """`ThrottlingException`, whatever stands around it: `com.amazon.coral.service#ThrottlingException:http://…`."""
    given = next((value for name, value in headers.items() if name.lower() == "x-amzn-errortype"), "")
    given = given or _text(fields, "__type") or _text(fields, "code") or _text(fields, "Code")
    name = given.partition(":")[0].rpartition("#")[2].strip()
    return name[:1].upper() + name[1:]


def _message_of(fields: Mapping[str, Any]) -> str:
    return _text(fields, "message") or _text(fields, "Message")


def _fields_of(body: bytes) -> dict[str, Any]:
    try:
        value: Any = mend_surrogates(decode_json(body))
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
