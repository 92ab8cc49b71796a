"""Who is asking: `authenticate(request) → Principal` is the hook a host application fills."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeAlias

from starlette.requests import Request

from turnstream.errors import Unauthorized


class Principal(NamedTuple):
    """The owner of what is made and the only one who finds it again. `metadata` is added to the turns it starts."""

    owner: str
    metadata: dict[str, Any] = {}


Authenticate: TypeAlias = Callable[[Request], Principal | Awaitable[Principal]]
LOCAL = Principal("local")


def local_use(request: Request) -> Principal:
    """The default: one user, on this machine. The Host header is checked too, so that neither a reverse proxy nor a
    web page with a rebound name can speak for the local user."""
    client = request.client
    if client is None or not (_is_loopback(client.host) and _is_loopback(request.url.hostname or "")):
        raise Unauthorized(
            "this server is for local use only; give it a key, or Engine(authenticate=...), to serve others"
        )
    return LOCAL


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def key_required(key: str) -> Authenticate:
    """Requests must carry `Authorization: Bearer KEY`."""
    expected = key.encode()

    def authenticate(request: Request) -> Principal:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            raise Unauthorized("send the server's key: `Authorization: Bearer KEY`")
        return LOCAL

    return authenticate
