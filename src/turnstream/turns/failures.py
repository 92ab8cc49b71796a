"""Failures as clients see them: a stable code, and a message without internal details."""

from __future__ import annotations

from typing import NamedTuple

from turnstream.errors import ProviderError, StoreError, TurnGone, TurnstreamError
from turnstream.providers.failures import MASKED, masked_message


class FailureWords(NamedTuple):
    """The error code and message of a turn's row and its `turn_error`."""

    code: str
    message: str


CHAT_DELETED = FailureWords(
    "chat_deleted", "the chat of this turn was deleted while the answer was written: ask in another chat"
)


def describe_failure(error: BaseException, *, debug: bool = False) -> FailureWords:
    """Return the failure that clients see for `error`. With `debug`, its message is the error's own."""
    if isinstance(error, ProviderError):
        own_words = f"{error.message}: {error.detail}" if error.detail else error.message
        message = own_words if debug else masked_message(error)
        return FailureWords(error.code, message)
    if isinstance(error, TurnGone):
        return CHAT_DELETED
    if isinstance(error, StoreError):
        return FailureWords("database_error", str(error) if debug else "; ".join(MASKED["database_error"]))
    if isinstance(error, TurnstreamError):
        return FailureWords(error.code, error.message)
    own_words = f"{type(error).__name__}: {error}"
    return FailureWords(
        "source_error",
        own_words if debug else "the source of this turn failed: try again; the server's log has the cause",
    )
