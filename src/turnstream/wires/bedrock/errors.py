"""Bedrock's errors. An HTTP answer and a stream spell the names of the same exceptions differently.

The name is `ThrottlingException` in an answer's header `x-amzn-errortype` or its body's `__type`. It is
`throttlingException` in a stream. Signature errors come from the layer in front of the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnstream.core.stream_events import ErrorKind, StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.error_engine import ErrorTable, WrittenError
from turnstream.wires.shared.json_values import JsonObject

_NAMES: dict[str, type[ProviderError]] = {
    "Validation": InvalidModelRequest,
    "Conflict": InvalidModelRequest,
    "Serialization": InvalidModelRequest,
    "AccessDenied": PermissionDenied,
    "ResourceNotFound": ModelNotFound,
    "Throttling": RateLimited,
    "TooManyRequests": RateLimited,
    "ServiceQuotaExceeded": RateLimited,
    "ModelNotReady": Overloaded,
    "ServiceUnavailable": Overloaded,
    "ModelTimeout": ProviderTimeout,
    "InternalServer": ProviderFailed,
    "InternalFailure": ProviderFailed,
    "ModelError": ProviderFailed,
    "ModelStreamError": ProviderFailed,
    "ExpiredToken": AuthenticationFailed,
    "IncompleteSignature": AuthenticationFailed,
    "InvalidClientTokenId": AuthenticationFailed,
    "InvalidSignature": AuthenticationFailed,
    "MissingAuthenticationToken": AuthenticationFailed,
    "NotAuthorized": AuthenticationFailed,
    "RequestExpired": AuthenticationFailed,
    "SignatureDoesNotMatch": AuthenticationFailed,
    "UnrecognizedClient": AuthenticationFailed,
}
"""Error classes by exception name. Each name also occurs with the suffix `Exception`."""
_STREAM_NAMES: dict[ErrorKind, str] = {
    "internal_server": "internalServerException",
    "service_unavailable": "serviceUnavailableException",
    "throttling": "throttlingException",
    "validation": "validationException",
    "model_stream": "modelStreamErrorException",
}


def parse_stream_error(headers: Mapping[str, Any], payload: bytes) -> StreamError:
    """Return the error in one message of a stream: an exception, or an error without a modelled type."""
    reported = ERRORS.read_body(payload)
    given = (headers.get(name) for name in (":exception-type", ":error-code"))
    names = tuple(name for name in given if isinstance(name, str))
    words = reported.words or headers.get(":error-message")
    return ERRORS.stream_error(reported._replace(words=str(words or ""), names=names))


def dump_stream_error(error: StreamError) -> tuple[str, JsonObject]:
    """Return the name and the payload of the exception for an error."""
    message = ERRORS.prefixed_message(error.code, error.message)
    fields: JsonObject = {"message": message}
    if error.kind == "model_stream":
        fields["originalMessage"] = message
        if error.provider_status is not None:
            fields["originalStatusCode"] = error.provider_status
    return _STREAM_NAMES[error.kind], fields


def _body(written: WrittenError, message: str, _wait: float | None) -> JsonObject:
    return {"__type": written.type, "message": message}


ERRORS = ErrorTable(
    body=_body,
    means_statuses=True,
    name_fields=("Code", "code", "type", "__type"),
    name_header="x-amzn-errortype",
    model_failures=frozenset({"modelErrorException", "modelStreamErrorException"}),
    unknown="model_stream",
    quota_words=("servicequota",),
    too_long="Input is too long for requested model.",
    names={f"{name}{ending}".lower(): kind for name, kind in _NAMES.items() for ending in ("", "Exception")},
    written={
        AuthenticationFailed.code: WrittenError(403, "UnrecognizedClientException"),
        PermissionDenied.code: WrittenError(403, "AccessDeniedException"),
        ModelNotFound.code: WrittenError(404, "ResourceNotFoundException"),
        InvalidModelRequest.code: WrittenError(400, "ValidationException"),
        ContentFiltered.code: WrittenError(400, "ValidationException"),
        RateLimited.code: WrittenError(429, "ThrottlingException"),
        Overloaded.code: WrittenError(503, "ServiceUnavailableException"),
        ProviderTimeout.code: WrittenError(408, "ModelTimeoutException"),
        ProviderFailed.code: WrittenError(500, "InternalServerException"),
    },
)
