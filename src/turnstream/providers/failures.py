"""Failures of calls to a provider as typed errors, with keys masked in all of them."""

from __future__ import annotations

import errno
import math
import re
import socket
import ssl
from collections.abc import Iterable, Mapping

import msgspec

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    CircuitOpen,
    ConnectionFailed,
    InvalidModelRequest,
    Overloaded,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamIncomplete,
    TurnstreamError,
)
from turnstream.providers.connection import BadAnswer
from turnstream.telemetry import MASK, SHORTEST_SECRET, one_line
from turnstream.wires.shared.error_engine import CLASSES
from turnstream.wires.shared.failure_words import reclassified

_SECRET_HEADER = re.compile(r"auth|cookie|key|secret|token", re.IGNORECASE)
MASKED: dict[str, tuple[str, str]] = {
    "authentication_error": (
        "the key for this model provider is missing or was refused",
        "set it, or ask the operator to",
    ),
    "permission_error": ("the model provider does not allow this request", "choose another model"),
    "not_found_error": ("the model provider does not know this model", "choose another one"),
    "invalid_request_error": ("the model provider refused the request", "change it, or choose another model"),
    "invalid_request": ("the model cannot be asked this", "change the request, or choose another model"),
    "context_length_exceeded": (
        "the conversation is longer than the model can read",
        "begin a new one, or choose another model",
    ),
    "content_filtered": ("the model provider's content filter refused the request", "change its words"),
    "insufficient_quota": (
        "the server's account at the model provider has no credit or quota left",
        "its operator must add some",
    ),
    "timeout_error": ("the model provider took too long", "try again later"),
    "rate_limit_error": ("the model provider limits requests", "try again later"),
    "overloaded_error": ("the model provider is overloaded", "try again later"),
    "api_error": ("the model provider failed", "try again later"),
    "connection_error": ("the model provider could not be reached", "try again later"),
    "first_token_timeout": ("the model did not begin to answer in time", "try again"),
    "idle_timeout": ("the model stopped answering", "try again"),
    "connect_timeout": ("the model provider could not be reached in time", "try again later"),
    "circuit_open": ("the model failed too often just now", "try again later"),
    "cannot_continue": ("the answer broke off, and cannot be continued", "ask again"),
    "total_timeout": ("the answer took longer than is allowed", "ask for a shorter one"),
    "stream_incomplete": ("the answer ended before it was complete", "ask again"),
    "malformed_event": ("the model provider sent something that cannot be read", "ask again"),
    "event_too_large": ("the model provider sent an event that is too large", "ask for a shorter answer"),
    "answer_too_large": ("the answer grew past the limit", "ask for a shorter one"),
    "database_error": ("the answer could not be stored", "try again later"),
}
"""Messages for clients by code: the failure, and the next step. They replace the provider's own text."""
_FAILED = MASKED["api_error"]
_BY_KIND: dict[str, type[ProviderError]] = {
    "throttling": RateLimited,
    "service_unavailable": Overloaded,
    "validation": InvalidModelRequest,
}
_LONGEST_WORDS = 1000
_LONGEST_ID = 200
_PERMANENT = frozenset({errno.ECONNREFUSED, socket.EAI_NONAME})


class SecretMask:
    """Replaces a provider's keys in texts of the provider or of a library."""

    __slots__ = ("_secrets",)

    def __init__(self, api_key: str | None, headers: Mapping[str, str]) -> None:
        secrets = {value for name, value in headers.items() if _SECRET_HEADER.search(name)}
        if api_key is not None:
            secrets.add(api_key)
        self._secrets: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Add secrets to replace."""
        known = {*self._secrets, *(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)}
        self._secrets = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def error(self, error: ProviderError) -> ProviderError:
        """Mask an error in place, and drop its cause and context."""
        error.message = self.text(error.message)
        error.args = (error.message,)
        if error.detail is not None:
            error.detail = self.text(error.detail)
        error.__cause__ = error.__context__ = None
        return error

    def event(self, event: StreamError) -> StreamError:
        return msgspec.structs.replace(event, message=self.text(event.message))


_REMEDIES = {"ollama": " (is Ollama running? start it with `ollama serve`, or set OLLAMA_HOST)"}
"""Hints for the operator, by the provider that cannot be reached."""


def connect_failure(name: str, address: str, error: Exception) -> ProviderError:
    """Return the error for a failed connection to `address`. It is retryable if the cause may pass soon."""
    detail = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return ProviderTimeout(
            f"{name}: no connection to {address} in time: check base_url and the network",
            code="connect_timeout",
            detail=detail,
        )
    if isinstance(error, ssl.SSLError):
        return ConnectionFailed(
            f"{name}: no secure connection to {address}: check base_url and the certificate",
            retryable=False,
            detail=detail,
        )
    may_pass = not (isinstance(error, OSError) and error.errno in _PERMANENT)
    if isinstance(error, socket.gaierror):
        return ConnectionFailed(
            f"{name}: the host name of {address} was not found: check base_url and the network",
            retryable=may_pass,
            detail=detail,
        )
    remedy = _REMEDIES.get(name, "")
    return ConnectionFailed(f"{name}: no connection to {address}{remedy}", retryable=may_pass, detail=detail)


def request_failure(name: str, error: Exception) -> ProviderError:
    """Return the error for a request that got no answer."""
    detail = str(error) or type(error).__name__
    if isinstance(error, BadAnswer):
        return ProviderFailed(f"{name}: the answer is not HTTP: check base_url", detail=detail)
    return ConnectionFailed(
        f"{name}: the connection was lost before an answer", retryable=True, detail=detail
    )


def broken_stream(name: str, error: Exception) -> StreamIncomplete:
    """Return the error for an answer whose body broke off."""
    return StreamIncomplete(f"{name}: the answer broke off", detail=str(error) or type(error).__name__)


def masked_message(error: ProviderError) -> str:
    """Return the message about `error` for clients, without the provider's own text."""
    if isinstance(error, CircuitOpen) and error.retry_after is not None:
        return f"the model failed too often just now; try again in {math.ceil(error.retry_after)} s"
    return "; ".join(MASKED.get(error.code, _FAILED))


def operator_words(error: BaseException, model: str | None = None) -> str:
    """Return one line about `error` for operators.

    It holds the model and the code, and for a provider's error also the status, the request id and its own
    text.
    """
    code = error.code if isinstance(error, TurnstreamError) else type(error).__name__
    parts = [code if model is None else f"{model}: {code}"]
    if not isinstance(error, ProviderError):
        return one_line(f"{parts[0]}: {error}", _LONGEST_WORDS)
    if error.provider_status is not None:
        parts.append(f"HTTP {error.provider_status}")
    if error.request_id is not None:
        parts.append(f"request {one_line(error.request_id, _LONGEST_ID)}")
    words = error.message if not error.detail else f"{error.message}: {error.detail}"
    return f"{one_line(', '.join(parts), _LONGEST_WORDS)}: {one_line(words, _LONGEST_WORDS)}"


_RECOVERIES = {
    "attempt_failed": "the call is retried",
    "fallback": "another model is called",
    "continued": "the answer continues where it broke off",
    "restarted": "the answer starts again",
}


def recovery_message(failure: ProviderError, model: str, code: str, pause: float) -> str:
    """Return the message about a failure. A call of `model` follows after `pause` seconds."""
    when = f" in {pause:.1f} s" if pause >= 0.1 else ""
    return f"{MASKED.get(failure.code, _FAILED)[0]}: {_RECOVERIES[code]}{when} ({model})"


def stream_error(event: StreamError) -> ProviderError:
    """Return the exception for an error inside a provider's stream."""
    kind = CLASSES.get(event.code) or _BY_KIND.get(event.kind, ProviderFailed)
    error = kind(
        "the provider reported an error in its stream",
        code=event.code,
        provider_status=event.provider_status,
        detail=event.message,
    )
    error.request_id = event.request_id
    return reclassified(error)
