"""Errors in the shape of a provider's protocol."""

from __future__ import annotations

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    InvalidModelRequest,
    InvalidRequest,
    Overloaded,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    TurnstreamError,
)
from turnstream.wires.shared.error_engine import CLASSES

_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    408: ProviderTimeout,
    503: Overloaded,
}
_OWN_ENDS: dict[str, type[ProviderError]] = {
    "server_shutdown": Overloaded,
    "orphan_timeout": ProviderTimeout,
    "circuit_open": Overloaded,
    InvalidRequest.code: InvalidModelRequest,
}
"""Classes for ends that only turnstream has, by their codes. Providers know no other class.

A turn ends with the code of InvalidRequest if its
model's API cannot express the request.
"""
_KINDS = frozenset(CLASSES.values())


def as_provider_error(error: TurnstreamError) -> ProviderError:
    """Return the error with which a provider would refuse a request for the same reason."""
    if isinstance(error, ProviderError):
        return error
    kind = _BY_STATUS.get(error.status) or (InvalidModelRequest if error.status < 500 else ProviderFailed)
    if error.code == type(error).code:
        return kind(error.message)
    return kind(error.message, code=error.code)  # a code of its own, which some protocols show


def error_of_end(end: StreamError, failure: ProviderError | None) -> ProviderError:
    """Return the error of a turn that has ended without output.

    Args:
        end: The end, as clients see it.
        failure: The failure of the last model call, or None. Its own text is not used.
    """
    kind = CLASSES.get(end.code, ProviderFailed)
    if failure is None or failure.code != end.code:
        return _OWN_ENDS.get(end.code, kind)(end.message, code=end.code)
    kind = next((base for base in type(failure).__mro__ if base in _KINDS), kind)
    error = _OWN_ENDS.get(end.code, kind)(end.message, code=end.code, retry_after=failure.retry_after)
    error.rate_limits = failure.rate_limits
    return error
