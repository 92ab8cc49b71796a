"""Sessions of the page: a browser that has sent the server's key once gets a signed cookie.

A script cannot read the cookie, and no storage of the browser has the key. The cookie is not stored on the
server. It is valid until it expires or the server has another key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from turnstream.errors import Unauthorized
from turnstream.server.auth import LOCAL, Principal, is_cross_site, key_required

COOKIE = "turnstream_session"
SESSION_SECONDS = 30 * 24 * 3600
"""Seconds that a session lasts."""
PAGE_HEADER = "x-turnstream-page"
"""Header of the page's own requests.

For a page of another origin, a browser first sends a preflight request.
"""
_ROUNDS = 100_000
_KEY_HEADERS = ("authorization", "x-api-key")
_TOKEN = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")


class Sessions:
    """Makes and checks the cookies of sessions. The server's key signs them."""

    def __init__(self, key: str) -> None:
        self._key = key

    @cached_property
    def _secret(self) -> bytes:
        # Slow on purpose: a stolen cookie must not help to guess the server's key.
        return hashlib.pbkdf2_hmac("sha256", self._key.encode(), b"turnstream session", _ROUNDS)

    def begin(self, response: Response, request: Request) -> None:
        """Add the cookie of a new session to a response."""
        head = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        response.set_cookie(
            COOKIE, f"{head}.{self._signature(head)}", max_age=SESSION_SECONDS, **_attributes(request)
        )

    def end(self, response: Response, request: Request) -> None:
        """Remove the cookie of a session."""
        response.delete_cookie(COOKIE, **_attributes(request))

    def is_signed_in(self, request: Request) -> bool:
        """Return True if a request has the cookie of a session that has not expired."""
        found = _TOKEN.fullmatch(request.cookies.get(COOKIE, ""))
        if found is None:
            return False
        head, _, signature = found[0].rpartition(".")
        return hmac.compare_digest(self._signature(head), signature) and int(found[1]) > time.time()

    def _signature(self, head: str) -> str:
        return hmac.new(self._secret, head.encode(), hashlib.sha256).hexdigest()


class KeyOrSession:
    """The hook of a server with a key: it accepts the key itself, or the cookie of a session.

    A browser sends a cookie by itself, so a request with a cookie must show that the page sent it.
    """

    def __init__(self, key: str) -> None:
        self.sessions = Sessions(key)
        self._key = key
        self._with_key = key_required(key)

    def __call__(self, request: Request) -> Principal | Awaitable[Principal]:
        has_key = any(name in request.headers for name in _KEY_HEADERS)
        if has_key or not self.sessions.is_signed_in(request):
            return self._with_key(request)
        require_own_page(request)
        return LOCAL

    def is_key(self, given: str) -> bool:
        """Return True if `given` is the server's key."""
        return hmac.compare_digest(given.encode(), self._key.encode())


def require_own_page(request: Request) -> None:
    """Raise Unauthorized if a page of another origin may have sent the request.

    A request that changes something needs the header of the page too.
    """
    reads = request.method in ("GET", "HEAD")
    if is_cross_site(request) or not (reads or PAGE_HEADER in request.headers):
        raise Unauthorized("this request does not come from the server's own page: send the server's key")


def _attributes(request: Request) -> dict[str, Any]:
    # A proxy may speak TLS for the server: only the browser knows.
    secure = request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https"
    path = request.scope.get("root_path", "") or "/"
    return {"path": path, "secure": secure, "httponly": True, "samesite": "strict"}
