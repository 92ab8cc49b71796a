"""Error answers in one shape for all routes: `{"error": {"code", "message"}}`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import JSONResponse, Response

from turnstream.errors import StoreError, TurnstreamError

logger = logging.getLogger(__name__)


ErrorAnswer: TypeAlias = Callable[[TurnstreamError], Response]
"""Makes the response of an error in a protocol's own form."""


def error_response(error: TurnstreamError) -> JSONResponse:
    headers = {"Retry-After": "1"} if error.status == 503 else None
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, status_code=error.status, headers=headers)


def unexpected_response(error: Exception, *, debug: bool) -> JSONResponse:
    """Return the response for an exception that is not a TurnstreamError. `debug`: show its own message."""
    message = "the server failed unexpectedly: try again; its log has the cause"
    if debug:
        message = f"the server failed unexpectedly: {type(error).__name__}: {error}"
    return error_response(TurnstreamError(message))


def mask_store_error(error: StoreError, *, debug: bool) -> TurnstreamError:
    """Log a storage failure and return the error for the client. `debug`: show its own message."""
    logger.error("storage failed: %s", error)
    message = "the request could not be stored or read"
    return TurnstreamError(f"{message}: {error}" if debug else f"{message}: try again", code=error.code)
