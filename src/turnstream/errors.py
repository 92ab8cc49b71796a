"""The whole exception tree.

    TurnstreamError
    ├── ConfigurationError        the settings cannot work; the message names the remedy
    ├── RequestError              the caller's request cannot be served (an HTTP 4xx)
    │   ├── InvalidRequest 400    ├── Unauthorized 401   ├── NotFound 404
    │   ├── RequestTimeout 408    ├── Conflict 409       └── TooLarge 413
    ├── Unavailable 503           try again later: draining, or too much at once
    ├── ProviderError             a model call failed
    │   ├── AuthenticationFailed  ├── PermissionDenied   ├── ModelNotFound
    │   ├── InvalidModelRequest   ├── ContextLengthExceeded
    │   ├── ContentFiltered       ├── RateLimited        ├── Overloaded
    │   ├── ProviderFailed        the provider's own fault (5xx, an error in its stream)
    │   ├── ProviderTimeout       ├── ConnectionFailed
    │   ├── InvalidOutput         a whole answer that is not of the type that was asked for
    │   └── StreamBroken          bytes arrived, but not a whole answer
    │       ├── StreamIncomplete  └── MalformedEvent ── EventTooLarge
    ├── StreamClosed              the caller left a stream of the library before its end
    └── StoreError                durable storage failed (`database_error`)
        ├── Fenced                another executor owns the turn now
        └── StoreLocked           another process writes this database

Every error has a `code` (a stable string for programs), a message for people, and `retryable`: whether the
same request may succeed later. An error that ends a stream of the library has `partial`: what had come until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar, Protocol


class PartialMessage(Protocol):
    """What had come of a message that broke off: a `ModelMessage` whose `complete` is False."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def blocks(self) -> Sequence[Any]: ...
    @property
    def usage(self) -> Any: ...
    @property
    def cost(self) -> Decimal | None: ...


class TurnstreamError(Exception):
    """Base of all errors that this package raises on purpose."""

    code: str = "internal_error"
    status: ClassVar[int] = 500
    retryable: bool = False
    partial: PartialMessage | None = None

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class ConfigurationError(TurnstreamError):
    code = "configuration_error"


class RequestError(TurnstreamError):
    code = "invalid_request"
    status = 400


class InvalidRequest(RequestError):
    pass


class Unauthorized(RequestError):
    code = "unauthorized"
    status = 401


class NotFound(RequestError):
    code = "not_found"
    status = 404


class RequestTimeout(RequestError):
    code = "request_timeout"
    status = 408
    retryable = True


class Conflict(RequestError):
    code = "conflict"
    status = 409


class TooLarge(RequestError):
    code = "too_large"
    status = 413


class Unavailable(TurnstreamError):
    code = "unavailable"
    status = 503
    retryable = True


class ProviderError(TurnstreamError):
    """A model call failed.

    `provider_status` is the HTTP status, if there was one; `detail` the provider's own words, which may hold
    anything and are shown to clients only in debug mode; `retry_after` the seconds it asked us to wait.
    """

    code = "api_error"
    status = 502

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        provider_status: int | None = None,
        detail: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, retryable=retryable)
        self.provider_status = provider_status
        self.detail = detail
        self.retry_after = retry_after


class AuthenticationFailed(ProviderError):
    code = "authentication_error"


class PermissionDenied(ProviderError):
    code = "permission_error"


class ModelNotFound(ProviderError):
    code = "not_found_error"


class InvalidModelRequest(ProviderError):
    code = "invalid_request_error"


class ContextLengthExceeded(InvalidModelRequest):
    code = "context_length_exceeded"


class ContentFiltered(ProviderError):
    code = "content_filtered"


class RateLimited(ProviderError):
    code = "rate_limit_error"
    retryable = True


class Overloaded(ProviderError):
    code = "overloaded_error"
    retryable = True


class ProviderFailed(ProviderError):
    code = "api_error"
    retryable = True


class ProviderTimeout(ProviderError):
    """A provider clock ran out; `code` names it: first_token_timeout, idle_timeout or total_timeout."""

    code = "timeout_error"
    retryable = True


class ConnectionFailed(ProviderError):
    code = "connection_error"


class InvalidOutput(ProviderError):
    """The answer is whole, but its value is not of the type that was asked for; `detail` holds the text."""

    code = "invalid_output"
    retryable = True


class StreamBroken(ProviderError):
    code = "stream_error"
    retryable = True


class StreamIncomplete(StreamBroken):
    """The stream ended without its end marker."""

    code = "stream_incomplete"


class MalformedEvent(StreamBroken):
    """The provider sent something that is not an event of its wire."""

    code = "malformed_event"


class EventTooLarge(MalformedEvent):
    code = "event_too_large"


class StreamClosed(TurnstreamError):
    """The stream was left before its end: there is no whole message, only `partial`."""

    code = "stream_closed"


class StoreError(TurnstreamError):
    code = "database_error"
    retryable = True


class Fenced(StoreError):
    """The turn was taken over, or has ended: this executor may write no more."""

    code = "fenced"
    retryable = False


class StoreLocked(StoreError):
    code = "database_locked"
    retryable = False
