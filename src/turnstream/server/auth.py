"""Authentication of callers. A host application provides the hook `authenticate(request) → Principal`."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from ipaddress import ip_address
from secrets import token_hex
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import URL
from starlette.requests import Request

from turnstream.access import check_key
from turnstream.dialects.provider_shaped.origin_seal import OriginSeal
from turnstream.errors import Unauthorized
from turnstream.store.base import Store
from turnstream.store.operations.secrets import KeepSecret
from turnstream.turns.preparation import PrepareHook, TurnPreparation, call_hook


class Principal(NamedTuple):
    """An authenticated caller.

    `owner`: owner of the chats and turns that the caller creates. Other owners cannot find them.
    `metadata`: added to the turns that the caller starts.
    """

    owner: str
    metadata: dict[str, Any] = {}


Authenticate: TypeAlias = Callable[[Request], Principal | Awaitable[Principal]]
LOCAL = Principal("local")
_ORIGIN_KEY = "origins"
"""Name of the secret that signs origins."""


_HOPS = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
_HOP_PREFIX = b"x-forwarded"
"""Prefix of further headers that a proxy adds, besides `_HOPS`."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_STAGED_AGENT = "/agent/"
"""Part of the addresses of the staged agent."""
_REMEDY = "set TURNSTREAM_API_KEY to a key that clients send, or give Engine(authenticate=...)"


def local_use(request: Request) -> Principal:
    """Return the single user of this machine. This is the default hook.

    Raises Unauthorized if

    - the request comes from another machine,
    - its Host is not this machine (DNS rebinding by a web page),
    - it has a header that proxies add,
    - it changes something and comes from a web page of another origin.

    A proxy that adds no header and replaces Host, as nginx does by default, looks like a local program. Set a
    server key in that case.
    """
    return _local_use(request, frozenset())


def local_use_from(origins: Collection[str]) -> Authenticate:
    """Return a `local_use` that also accepts changes from web pages of these origins."""
    listed = frozenset(origins)
    return lambda request: _local_use(request, listed)


def _local_use(request: Request, origins: Collection[str]) -> Principal:
    client = request.client
    if client is None or not (_is_loopback(client.host) and _is_loopback(_hostname(request))):
        raise Unauthorized(f"this server is for local use only; to serve others, {_REMEDY}")
    for name, _ in request.scope["headers"]:
        if name.startswith(_HOP_PREFIX) or name in _HOPS:
            raise Unauthorized(
                "this server is for local use only, and the request came through a proxy "
                f"({name.decode()}); {_REMEDY}"
            )
    is_listed = request.headers.get("origin") in origins
    if request.method not in _READING and not is_listed and is_cross_site(request):
        raise Unauthorized(
            "a web page of another origin may not change anything here; to serve it, name its origin in "
            f"server.cors_origins, or {_REMEDY}"
        )
    return LOCAL


def _hostname(request: Request) -> str:
    """Return the name of the server in the request's URL."""
    host = request.headers.get("host")
    return (request.url.hostname or "") if host is None else _name_in(host)


@lru_cache(maxsize=256)
def _name_in(host: str) -> str:
    return URL(f"http://{host}/").hostname or ""


def is_cross_site(request: Request) -> bool:
    """Return True if the browser's headers show that a page of another origin sent the request."""
    site = request.headers.get("sec-fetch-site")  # older browsers send only Origin
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and _authority(urlsplit(origin).netloc) != _authority(
        request.headers.get("host", "")
    )


def _authority(host: str) -> str:
    return host.lower().removesuffix(":80").removesuffix(":443")


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def key_required(key: str) -> Authenticate:
    """Return a hook that requires `Authorization: Bearer KEY` or `x-api-key: KEY`.

    Clients of the staged agent may send `?api_key=KEY`.

    Raises ConfigurationError if a header cannot carry the key.
    """
    check_key(key, "the server's key")
    expected = key.encode()

    def authenticate(request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        if not given and _STAGED_AGENT in request.url.path:
            given = request.query_params.get("api_key", "")
        if not hmac.compare_digest(given.strip().encode(), expected):
            raise Unauthorized("send the server's key: `Authorization: Bearer KEY`, or `x-api-key: KEY`")
        return LOCAL

    return authenticate


def prepared_hook(
    authenticate: Authenticate, origins: Collection[str], note: Callable[[str | None], None] | None
) -> Authenticate:
    """Return `authenticate` as a server calls it.

    Args:
        origins: Origins of web pages that the default hook accepts.
        note: Called with the client's address for each caller that the hook refuses. None: not called.
    """
    if authenticate is local_use and origins:
        authenticate = local_use_from(origins)
    return authenticate if note is None else NotingHook(authenticate, note)


class NotingHook:
    """Calls another hook, and notes each caller that it refuses.

    Args:
        hook: The other hook.
        note: Called with the address of each refused caller.
    """

    def __init__(self, hook: Authenticate, note: Callable[[str | None], None]) -> None:
        self.hook = hook
        self._note = note

    async def __call__(self, request: Request) -> Principal:
        try:
            answer = self.hook(request)
            return await answer if inspect.isawaitable(answer) else answer
        except Unauthorized:
            self.note_refusal(request)
            raise

    def note_refusal(self, request: Request) -> None:
        """Note that the caller of a request is refused."""
        self._note(None if request.client is None else request.client.host)


def prepare_for(hook: Callable[[TurnPreparation, Principal], object]) -> PrepareHook:
    """Return a function that calls a host application's hook with a preparation and its Principal."""

    async def prepare(preparation: TurnPreparation) -> None:
        await call_hook(hook, preparation, Principal(preparation.owner, preparation.metadata))

    return prepare


class OriginKey:
    """Makes the seal with which a server signs origins that go through clients.

    Its key is made at the first use, and stays the same in this database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seal: OriginSeal | None = None

    async def seal(self) -> OriginSeal:
        """Return the seal. Raises StoreError."""
        if self._seal is None:
            key = await self._store.write(KeepSecret(name=_ORIGIN_KEY, value=token_hex(32)))
            self._seal = OriginSeal(bytes.fromhex(key))
        return self._seal
