"""Errors of Anthropic Messages: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

from __future__ import annotations

from typing import Any

import msgspec

from turnstream.dialects.provider_shaped.failures import as_provider_error
from turnstream.errors import ProviderError, TurnstreamError
from turnstream.wires.anthropic.wire import WIRE

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}
"""Types of refusals by turnstream itself, by the status. Others are an `invalid_request_error`."""
_OVERLOADED = 529
"""Status of Anthropic for a server that takes no requests now."""


def encode_error(error: TurnstreamError, request_id: str) -> tuple[int, bytes]:
    """Return the status and the JSON body of an error before the first byte of an answer.

    Args:
        error: The error.
        request_id: Id of the request for clients.
    """
    if isinstance(error, ProviderError) or error.status == 500:
        status, body = WIRE.encode_error(as_provider_error(error))
        fields: dict[str, Any] = msgspec.json.decode(body)
    else:
        status = _OVERLOADED if error.status == 503 else error.status
        kind = _TYPES.get(error.status, "invalid_request_error")
        fields = {"type": "error", "error": {"type": kind, "message": error.message}}
    return status, msgspec.json.encode({**fields, "request_id": request_id})
