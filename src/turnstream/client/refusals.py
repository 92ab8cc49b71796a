"""Converts failures of requests, error answers and failed connections, into errors of `turnstream.errors`."""

from __future__ import annotations

import errno
from typing import Any

import aiohttp
import msgspec

from turnstream.errors import (
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    RequestError,
    RequestTimeout,
    TooLarge,
    TurnstreamError,
    Unauthorized,
    Unavailable,
)

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
WITHOUT_EFFECT = frozenset({425, 429, 503})
"""Statuses after which the request certainly had no effect."""

_KINDS: dict[int, type[TurnstreamError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    404: NotFound,
    408: RequestTimeout,
    409: Conflict,
    413: TooLarge,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refusal(response: aiohttp.ClientResponse, body: bytes) -> TurnstreamError:
    """Return the error of an answer that is not a success, with the server's message if it has one."""
    status = response.status
    if 300 <= status < 400:
        return _redirected(response)
    try:
        detail: Any = msgspec.json.decode(body, type=dict[str, Any])["error"]
        code, message = str(detail["code"]), str(detail["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        code = None
        message = f"the server answers {status} {response.reason or ''}".rstrip()
        message += ": is it the URL of a turnstream server?"
    kind = _KINDS.get(status) or (RequestError if status < 500 else TurnstreamError)
    return kind(message, code=code, retryable=status in TEMPORARY)


def _redirected(response: aiohttp.ClientResponse) -> RequestError:
    """Return the error of a redirect."""
    # Redirects are not followed: the key and other headers would be sent to any address.
    target = response.headers.get("Location", "")[:500].partition("?")[0]
    where = f" to {target!r}" if target else ""
    return RequestError(
        f"{response.url.origin()} answers {response.status} and redirects{where}: give the client the "
        "address that answers itself",
        code="redirected",
    )


def connection_failure(root: str, error: BaseException | None, *, during: str) -> ConnectionFailed:
    """Return the error of a failed connection. `error`: None if the server closed it."""
    if error is None:
        words = "it was closed"
    elif isinstance(error, aiohttp.ClientConnectorError):
        words = error.os_error.strerror or "no connection"
        if error.os_error.errno == errno.ECONNREFUSED:
            words += "; does `turnstream serve` run there?"
    elif isinstance(error, TimeoutError):
        words = "nothing came in time"
    else:
        words = str(error) or type(error).__name__
    return ConnectionFailed(
        f"{root} {during} ({words})", retryable=not isinstance(error, aiohttp.ClientSSLError)
    )
