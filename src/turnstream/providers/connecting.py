"""Connections to one host: opens them, also through a proxy, and keeps them for the next request."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias, cast
from urllib.request import getproxies, proxy_bypass

import aiohappyeyeballs
from multidict import CIMultiDict
from yarl import URL

from turnstream.errors import ConfigurationError, ConnectionFailed
from turnstream.providers.connection import HEAD_LIMIT, Connection
from turnstream.providers.failures import connect_failure

KEEP_ALIVE_SECONDS = 30.0
"""Seconds that an idle connection is kept."""
ADDRESS_SECONDS = 10.0
"""Seconds to cache a DNS answer."""
_NEXT_ADDRESS_SECONDS = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305)."""

_WITHOUT_BODY = frozenset({"GET", "DELETE"})

_Addresses: TypeAlias = list[tuple[int, int, int, str, tuple[Any, ...]]]


class ConnectionPool:
    """Opens and keeps as many connections to the host of `url` as are needed. Belongs to one event loop.

    Args:
        name: Name of the provider, for errors.
        url: Any URL of the host.
        connect_seconds: Deadline for opening a connection, with DNS, proxy and TLS.
        trust_env: True to use the proxy that the environment names.
    """

    def __init__(self, name: str, url: URL, *, connect_seconds: float, trust_env: bool) -> None:
        self._name = name
        self._url = url
        self._connect_seconds = connect_seconds
        self._proxy = proxy_of(url) if trust_env else None
        self._idle: deque[tuple[float, Connection]] = deque()
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._addresses: tuple[float, _Addresses] = (0.0, [])
        self._closed = False

    async def ask(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Connection:
        """Send one request, and return the connection with the head of its answer. `release` takes it.

        A server may close an idle connection. If a kept connection is lost before the first byte of an
        answer, the request is sent once more, over a new connection.

        Raises ConnectionFailed or ProviderTimeout if no connection can be opened, and OSError or BadAnswer if
        no answer begins.
        """
        request = self._written(method, url, headers, body)
        if (kept := self._take_idle()) is not None:
            try:
                return await self._ask(kept, request)
            except ConnectionError:
                if kept.has_received or self._closed:
                    raise
        return await self._ask(await self._open_connection(), request)

    def release(self, connection: Connection) -> None:
        """Keep a connection for another request if it is reusable. Cut it otherwise."""
        connection.arrived = None
        if self._closed or not connection.reusable:
            self._discard(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time() + KEEP_ALIVE_SECONDS, connection))
        if self._sweep is None:
            self._sweep = loop.call_later(KEEP_ALIVE_SECONDS, self._close_old)

    def close(self) -> None:
        """Cut all connections, also those in use."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in self._open:
            connection.abort()
        self._open.clear()

    def _take_idle(self) -> Connection | None:
        """Return the connection that was used last, or None if none is reusable."""
        while self._idle:
            _, connection = self._idle.pop()
            if connection.reusable:
                return connection
            self._discard(connection)
        return None

    async def _open_connection(self) -> Connection:
        """Return a new connection. Raises ConnectionFailed or ProviderTimeout."""
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._connect()
        except (
            OSError,
            RuntimeError,
        ) as error:  # uvloop raises RuntimeError for some cases that are an OSError elsewhere
            raise connect_failure(self._name, str(self._url.origin()), error) from None
        self._open.add(connection)
        if self._closed:
            self._discard(connection)
            raise ConnectionFailed(f"{self._name}: the provider was closed", retryable=False)
        return connection

    async def _ask(self, connection: Connection, request: bytes) -> Connection:
        try:
            await connection.ask(request)
        except BaseException:
            self._discard(connection)
            raise
        return connection

    def _discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.abort()

    def _written(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> bytes:
        fields = CIMultiDict({"Host": url.host_port_subcomponent or ""})
        fields.update(headers)
        target = url.raw_path_qs
        if self._proxy is not None and url.scheme == "http":
            target = str(url)
            fields.update(proxy_authorization(self._proxy))
        if body or method not in _WITHOUT_BODY:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()]]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        while self._idle and (self._idle[0][0] <= loop.time() or not self._idle[0][1].reusable):
            self._discard(self._idle.popleft()[1])
        self._sweep = loop.call_at(self._idle[0][0], self._close_old) if self._idle else None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        url, proxy = self._url, self._proxy
        host, port = host_and_port(proxy or url)
        opened = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
            await self._lookup(host, port), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=loop
        )
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a model may think for minutes
            secure = url.scheme == "https"
            if secure and proxy is not None:
                await _tunnel(opened, url, proxy)
            _, protocol = await loop.create_connection(
                Connection,
                sock=opened,
                ssl=_tls() if secure else None,
                server_hostname=url.host if secure else None,
            )
        except BaseException:
            opened.close()
            raise
        return protocol

    async def _lookup(self, host: str, port: int) -> _Addresses:
        loop = asyncio.get_running_loop()
        expires, addresses = self._addresses
        if loop.time() >= expires:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = cast("_Addresses", found)
            self._addresses = (loop.time() + ADDRESS_SECONDS, addresses)
        return addresses


def host_and_port(url: URL) -> tuple[str, int]:
    """Return the host and the port of a URL that has a host."""
    return url.host or "", url.port or 80


def proxy_authorization(proxy: URL) -> dict[str, str]:
    """Return the header with the proxy's credentials, or nothing if its URL has none."""
    if not proxy.user:
        return {}
    pair = f"{proxy.user}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}


async def _tunnel(opened: socket.socket, url: URL, proxy: URL) -> None:
    """Ask the proxy for a tunnel to the host of `url`. Raises OSError.

    The proxy sends nothing after its head before we do, so no bytes are lost here.
    """
    loop = asyncio.get_running_loop()
    host, port = host_and_port(url)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    fields = {"Host": target} | proxy_authorization(proxy)
    lines = [f"CONNECT {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()]]
    await loop.sock_sendall(opened, ("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(opened, 4096)
        answer += data
        if not data or len(answer) > HEAD_LIMIT:
            raise ConnectionError("the proxy's answer cannot be read")
    status = answer.split(b"\r\n", 1)[0]
    if status.split(b" ")[1:2] != [b"200"]:
        raise ConnectionError(f"the proxy refused the connection: {status.decode(errors='replace')}")


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_of(url: URL) -> URL | None:
    """Return the proxy that the environment or the system names for `url`, or None.

    Raises ConfigurationError if the proxy's scheme is not supported.
    """
    proxies: Mapping[str, str] = getproxies()
    found = proxies.get(url.scheme)
    if (
        not found
        or bypasses(url, proxies.get("no", ""))
        or ("no" not in proxies and proxy_bypass(url.host or ""))
    ):
        return None
    proxy = URL(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.host:
        raise ConfigurationError(
            f"the environment names a {proxy.scheme}:// proxy for {url.scheme}:// hosts: set an http:// "
            "proxy, as no others are supported"
        )
    return proxy


def bypasses(url: URL, no_proxy: str) -> bool:
    """Return True if `no_proxy` names the host of `url`.

    Entries are separated by commas or blanks. An entry is `*` for all hosts, a host with its subdomains
    (`example.org`, `.example.org`, `*.example.org`), an address or a network (`10.0.0.0/8`, `::1`). With a
    port it matches that port only (`localhost:8080`, `[::1]:8080`).
    """
    host = (url.host or "").lower().rstrip(".")
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name, port = _split_port(entry)
        if name and (port is None or port == url.port) and _names(name, host):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})", entry, re.ASCII)
    name, port = (found[1], int(found[2])) if found is not None else (entry, None)
    return name.removeprefix("[").removesuffix("]"), port


def _names(name: str, host: str) -> bool:
    if name == "*":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False
