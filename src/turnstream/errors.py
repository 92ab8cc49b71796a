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
    │   ├── CircuitOpen           not called: it failed too often just now
    │   └── StreamBroken          bytes arrived, but not a whole answer
    │       ├── StreamIncomplete  └── MalformedEvent ── EventTooLarge
    ├── StreamClosed              the caller left a stream of the library before its end
    └── StoreError                durable storage failed (`database_error`)
        ├── Fenced                another executor owns the turn now ── TurnGone
        ├── Unreadable            a stored row cannot be decoded
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
    def attempts(self) -> Sequence[Any]: ...
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
    """The settings, or what stands in for them, cannot work; the message names the remedy."""

    code = "configuration_error"


class RequestError(TurnstreamError):
    """The caller's request cannot be served."""

    code = "invalid_request"
    status = 400


class InvalidRequest(RequestError):
    """What was asked for is not something that can be asked for."""


class Unauthorized(RequestError):
    """Nobody is known by this key, or none was given."""

    code = "unauthorized"
    status = 401


class NotFound(RequestError):
    """There is no such thing, or it belongs to another owner."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The address takes other methods."""

    code = "method_not_allowed"
    status = 405


class RequestTimeout(RequestError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408
    retryable = True


class Conflict(RequestError):
    """The request contradicts what is there."""

    code = "conflict"
    status = 409


class TooLarge(RequestError):
    """What was sent is larger than is taken."""

    code = "too_large"
    status = 413


class Unavailable(TurnstreamError):
    """Draining, or too much at once: try again later."""

    code = "unavailable"
    status = 503
    retryable = True


class NotStarted(TurnstreamError):
    """The engine was used before it was entered, as in a host application that sends no lifespan events."""

    code = "engine_not_started"
    status = 503


class ProviderError(TurnstreamError):
    """A model call failed.

    `provider_status` is the HTTP status, if there was one; `detail` the provider's own words, which may hold
    anything and are shown to clients only in debug mode; `retry_after` the seconds it asked us to wait.
    """

    code = "api_error"
    status = 502
    request_id: str | None = None
    """The provider's own name for the request, where it gave one."""
    silence: float = 0.0
    """Seconds before the failure in which the call brought no output, where they were measured."""

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
    """The provider's key is missing, or was refused."""

    code = "authentication_error"


class PermissionDenied(ProviderError):
    """The key may not do this."""

    code = "permission_error"


class ModelNotFound(ProviderError):
    """The provider does not know this model."""

    code = "not_found_error"


class InvalidModelRequest(ProviderError):
    """The provider refused the request as it is: to send it again unchanged is no use."""

    code = "invalid_request_error"


class ContextLengthExceeded(InvalidModelRequest):
    """The conversation is longer than the model can read."""

    code = "context_length_exceeded"


class ContentFiltered(ProviderError):
    """The provider's content filter refused the request."""

    code = "content_filtered"


class RateLimited(ProviderError):
    """Too many requests, or tokens, for now; `retry_after` tells how long to wait, where the provider said so."""

    code = "rate_limit_error"
    retryable = True


class Overloaded(ProviderError):
    """The provider has too much to do."""

    code = "overloaded_error"
    retryable = True


class ProviderFailed(ProviderError):
    """The provider's own fault."""

    code = "api_error"
    retryable = True


class ProviderTimeout(ProviderError):
    """A provider clock ran out; `code` names it: first_token_timeout, idle_timeout or total_timeout."""

    code = "timeout_error"
    retryable = True


class ConnectionFailed(ProviderError):
    """The provider could not be reached, or the connection was lost before an answer."""

    code = "connection_error"


class InvalidOutput(ProviderError):
    """The answer is whole, but its value is not of the type that was asked for; `detail` holds the text."""

    code = "invalid_output"
    retryable = True


class CircuitOpen(ProviderError):
    """The model was not called, since it failed too often just now; `retry_after` says for how long."""

    code = "circuit_open"
    status = 503
    retryable = True


CANNOT_CONTINUE = "cannot_continue"
"""The code of a StreamBroken that ends an answer which was read and cannot be continued. Its cause is the failure before;
`retryable` is that of the cause."""


class StreamBroken(ProviderError):
    """Bytes arrived, but not a whole answer."""

    code = "stream_error"
    retryable = True


class StreamIncomplete(StreamBroken):
    """The stream ended without its end marker.

    `held`: events that had come, and waited for what would follow them.
    """

    code = "stream_incomplete"
    held: Sequence[Any] = ()


class MalformedEvent(StreamBroken):
    """The provider sent something that is not an event of its wire."""

    code = "malformed_event"


class EventTooLarge(MalformedEvent):
    """One event of a stream is larger than is taken. The same model would send it again."""

    code = "event_too_large"
    retryable = False


class StreamClosed(TurnstreamError):
    """The stream was left before its end: there is no whole message, only `partial`."""

    code = "stream_closed"


class StoreError(TurnstreamError):
    """Durable storage failed."""

    code = "database_error"
    retryable = True


class Fenced(StoreError):
    """The turn was taken over, or has ended: this executor may write no more."""

    code = "fenced"
    retryable = False


class TurnGone(Fenced):
    """The turn's rows were deleted, with its chat."""

    code = "chat_deleted"


class Unreadable(StoreError):
    """A stored row cannot be decoded. Reading it again gives the same."""

    code = "database_error"
    retryable = False


class StoreLocked(StoreError):
    """Another process writes this database."""

    code = "database_locked"
    retryable = False
