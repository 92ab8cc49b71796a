"""The whole exception tree.

    TurnstreamError
    ├── ConfigurationError        the settings cannot work; the message names the remedy
    ├── RequestError              the caller's request cannot be served (an HTTP 4xx)
    │   ├── InvalidRequest 400    ├── Unauthorized 401   ├── Forbidden 403
    │   ├── NotFound 404          ├── MethodNotAllowed 405
    │   ├── RequestTimeout 408    ├── Conflict 409
    │   ├── TooLarge 413          └── ResumeImpossible 410
    ├── Unavailable 503           draining or overloaded; try again later
    ├── NotStarted 503            the engine was used before it was entered
    ├── ProviderError             a model call failed
    │   ├── AuthenticationFailed  ├── PermissionDenied   ├── ModelNotFound
    │   ├── InvalidModelRequest ── ContextLengthExceeded
    │   ├── ContentFiltered       ├── RateLimited        ├── Overloaded
    │   ├── ProviderFailed        the provider's own fault (5xx, an error in its stream)
    │   ├── ProviderTimeout       ├── ConnectionFailed
    │   ├── InvalidOutput         the answer is complete, but not of the requested type
    │   ├── CircuitOpen           the model was not called, because it failed too often recently
    │   └── StreamBroken          bytes arrived, but not a complete answer
    │       ├── StreamIncomplete  └── MalformedEvent ── EventTooLarge
    ├── StageFailed               a stage of a workflow failed, or did not say how it ended
    ├── StreamClosed              the caller left a stream of the library before its end
    └── StoreError                durable storage failed (`database_error`)
        ├── Fenced                another executor owns the turn now ── StaleGeneration, TurnGone
        ├── Unreadable            a stored row cannot be decoded
        └── StoreLocked           another process writes this database

Every error has a `code` (a stable string for programs), a message for people, and `retryable`: True if the
same request may succeed later. An error that ends a stream of the library has `partial`, the answer up to the
error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Protocol


class PartialMessage(Protocol):
    """The received part of a message that broke off: a `ModelMessage` whose `complete` is False."""

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
    """The settings, or the arguments in their place, cannot work. The message names the remedy."""

    code = "configuration_error"


class RequestError(TurnstreamError):
    """The caller's request cannot be served."""

    code = "invalid_request"
    status = 400


class InvalidRequest(RequestError):
    """The request is not valid."""


class Unauthorized(RequestError):
    """The key is missing or unknown."""

    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    """The caller may not do this here."""

    code = "forbidden"
    status = 403


class NotFound(RequestError):
    """The object does not exist, or belongs to another owner."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestError):
    """The address accepts other methods only."""

    code = "method_not_allowed"
    status = 405


class RequestTimeout(RequestError):
    """The request did not arrive before its deadline."""

    code = "request_timeout"
    status = 408
    retryable = True


class Conflict(RequestError):
    """The request conflicts with the current state."""

    code = "conflict"
    status = 409


class ResumeImpossible(RequestError):
    """The requested part of a stream is no longer in memory."""

    code = "gone"
    status = 410


class TooLarge(RequestError):
    """The request is larger than the limit."""

    code = "too_large"
    status = 413


class Unavailable(TurnstreamError):
    """The server is draining or overloaded. Try again later."""

    code = "unavailable"
    status = 503
    retryable = True


class NotStarted(TurnstreamError):
    """The engine was used before it was entered, as in a host application without lifespan events."""

    code = "engine_not_started"
    status = 503


class StageFailed(TurnstreamError):
    """A stage of a workflow failed, took too long, or ended without an end event."""

    code = "stage_failed"


class ProviderError(TurnstreamError):
    """A model call failed.

    Attributes:
        provider_status: The HTTP status, or None.
        detail: The provider's own message, or None. It may hold anything, and clients see it only in debug
            mode.
        retry_after: Seconds that the provider asked the caller to wait, or None.
    """

    code = "api_error"
    status = 502
    request_id: str | None = None
    """The provider's id of the request, or None."""
    rate_limits: Mapping[str, str] = {}
    """Headers of the refusal that report the provider's rate limits, their names in lower case."""
    silence: float = 0.0
    """Seconds without output before the failure, or 0.0 if they were not measured."""

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
    """The provider's key is missing, or the provider refused it."""

    code = "authentication_error"


class PermissionDenied(ProviderError):
    """The key does not permit this request."""

    code = "permission_error"


class ModelNotFound(ProviderError):
    """The provider does not know this model."""

    code = "not_found_error"


class InvalidModelRequest(ProviderError):
    """The provider refused the request. A retry without changes cannot succeed."""

    code = "invalid_request_error"


class ContextLengthExceeded(InvalidModelRequest):
    """The conversation is longer than the model's context window."""

    code = "context_length_exceeded"


class ContentFiltered(ProviderError):
    """The provider's content filter refused the request, or withdrew text that was read."""

    code = "content_filtered"


class RateLimited(ProviderError):
    """The rate limit of requests or tokens is reached.

    `retry_after`: seconds to wait, if the provider sent them.
    """

    code = "rate_limit_error"
    retryable = True


class Overloaded(ProviderError):
    """The provider is overloaded."""

    code = "overloaded_error"
    retryable = True


class ProviderFailed(ProviderError):
    """The provider failed, and not because of the request."""

    code = "api_error"
    retryable = True


class ProviderTimeout(ProviderError):
    """A provider clock expired. `code` names it: first_token_timeout, idle_timeout or total_timeout."""

    code = "timeout_error"
    retryable = True


class ConnectionFailed(ProviderError):
    """The provider could not be reached, or the connection was lost before an answer."""

    code = "connection_error"


class InvalidOutput(ProviderError):
    """The answer is complete, but its value is not of the requested type. `detail` holds the text."""

    code = "invalid_output"
    retryable = True


class CircuitOpen(ProviderError):
    """The model was not called, because it failed too often recently.

    `retry_after`: seconds until the next probe.
    """

    code = "circuit_open"
    status = 503
    retryable = True


CANNOT_CONTINUE = "cannot_continue"
"""Code of a StreamBroken that ends an answer which has begun and cannot be continued.

The error's cause is the failure before, and `retryable` is that of the cause.
"""


class StreamBroken(ProviderError):
    """Bytes arrived, but not a complete answer."""

    code = "stream_error"
    retryable = True


class StreamIncomplete(StreamBroken):
    """The stream ended without its end marker. `held`: events that waited for more bytes."""

    code = "stream_incomplete"
    held: Sequence[Any] = ()


class MalformedEvent(StreamBroken):
    """The provider sent data that is not an event of its wire."""

    code = "malformed_event"


class EventTooLarge(MalformedEvent):
    """One event of a stream is larger than the limit. The same model would send it again."""

    code = "event_too_large"
    retryable = False


class StreamClosed(TurnstreamError):
    """The caller left the stream before its end. There is no complete message, only `partial`."""

    code = "stream_closed"


class StoreError(TurnstreamError):
    """Durable storage failed."""

    code = "database_error"
    retryable = True


class Fenced(StoreError):
    """Another executor took the turn over, or the turn has ended. This executor must not write any more."""

    code = "fenced"
    retryable = False


class StaleGeneration(Fenced):
    """The turn has another generation: another executor continues it, or has ended it."""


class TurnGone(Fenced):
    """The turn's rows were deleted with its chat."""

    code = "chat_deleted"


class Unreadable(StoreError):
    """A stored row cannot be decoded. A second read gives the same result."""

    code = "database_error"
    retryable = False


class StoreLocked(StoreError):
    """Another process writes this database."""

    code = "database_locked"
    retryable = False
