"""What clients are told of a failure: a stable code, and words that give nothing away (requirements D4, K3)."""

from __future__ import annotations

from typing import NamedTuple

from turnstream.errors import ProviderError, StoreError, TurnstreamError

_MASKED: dict[str, str] = {
    "authentication_error": "the server's key for this model provider is missing or was refused",
    "permission_error": "the model provider does not allow this request",
    "not_found_error": "the model provider does not know this model",
    "invalid_request_error": "the model provider refused the request",
    "context_length_exceeded": "the conversation is longer than the model can read",
    "content_filtered": "the model provider's content filter refused the request",
    "rate_limit_error": "the model provider limits requests; try again later",
    "overloaded_error": "the model provider is overloaded; try again later",
    "api_error": "the model provider failed",
    "connection_error": "the model provider could not be reached",
    "first_token_timeout": "the model did not begin to answer in time",
    "idle_timeout": "the model stopped answering",
    "total_timeout": "the answer took longer than is allowed",
    "stream_incomplete": "the answer ended before it was complete",
    "malformed_event": "the model provider sent something that cannot be read",
    "event_too_large": "the model provider sent an event that is too large",
    "answer_too_large": "the answer grew past the limit",
    "database_error": "the answer could not be stored",
}


class Failure(NamedTuple):
    """What a turn's row and its `turn_error` say."""

    code: str
    message: str


def describe_failure(error: Exception, *, debug: bool = False) -> Failure:
    """The failure that `error` is to clients; with `debug`, in its own words."""
    if isinstance(error, ProviderError):
        own_words = f"{error.message}: {error.detail}" if error.detail else error.message
        message = own_words if debug else _MASKED.get(error.code, "the model provider failed")
        return Failure(error.code, message)
    if isinstance(error, StoreError):
        return Failure("database_error", str(error) if debug else _MASKED["database_error"])
    if isinstance(error, TurnstreamError):
        return Failure(error.code, error.message)
    own_words = f"{type(error).__name__}: {error}"
    return Failure("source_error", own_words if debug else "the source of this turn failed")
