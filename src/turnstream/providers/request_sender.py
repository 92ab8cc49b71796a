"""Requests to one provider: their addresses, headers, signatures and redirects.

Redirects are followed within the provider's origin, with the same method and body. Keys are sent with every
request, so a redirect to another origin is refused.
"""

from __future__ import annotations

import asyncio
import logging
from copy import copy
from dataclasses import replace
from typing import Protocol, Self

from multidict import CIMultiDict
from yarl import URL

from turnstream.config import Timeouts
from turnstream.errors import ConnectionFailed, ProviderError, ProviderFailed
from turnstream.providers.connecting import ConnectionPool
from turnstream.providers.connection import BadAnswer, Connection
from turnstream.providers.endpoints import Addresses, Endpoint, call_headers, split_base_url
from turnstream.providers.failures import SecretMask
from turnstream.wires.base import HttpRequest, Wire
from turnstream.wires.shared.failure_words import OverflowWords

logger = logging.getLogger(__name__)

_MISSING_PATH = frozenset({404, 405})
"""Statuses with which servers answer an unknown address."""

MOST_REDIRECTS = 5
"""Requests that one call may take, with the first."""
_TOO_LATE = frozenset({400, 404, 409})
"""Statuses with which providers refuse to cancel an answer that has ended."""
BACKGROUND_SECONDS = 5.0
"""Seconds that a request in the background may take."""
_METHOD_PRESERVING = frozenset({307, 308})
"""Statuses that repeat the request unchanged. Others would turn a POST into a GET."""
_LONGEST_TARGET = 200


class RunningCall(Protocol):
    """A call that can be ended from outside."""

    def interrupt(self, error: ProviderError) -> None:
        """Raise `error` where the call waits."""
        ...


class RunningCalls:
    """The calls in progress of one provider, until the provider is closed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: set[RunningCall] = set()
        self._closed = False

    def add(self, call: RunningCall) -> None:
        """Add a call. Raises ConnectionFailed if the provider is closed."""
        if self._closed:
            raise self._closed_error()
        self._calls.add(call)

    def discard(self, call: RunningCall) -> None:
        """Remove a call, if it is there."""
        self._calls.discard(call)

    def close(self) -> None:
        """End all calls: they raise ConnectionFailed."""
        self._closed = True
        for call in tuple(self._calls):
            call.interrupt(self._closed_error())

    def _closed_error(self) -> ConnectionFailed:
        return ConnectionFailed(f"{self._name}: the provider was closed", retryable=False)


class RequestSender:
    """Sends a provider's requests, and ends its calls at `close`.

    Connections are opened on demand and shared by all calls. Raises ConfigurationError if the URL or the key
    cannot be used.
    """

    def __init__(self, name: str, wire: Wire, endpoint: Endpoint, timeouts: Timeouts | None = None) -> None:
        self.name = name
        self.wire = wire
        self.endpoint = endpoint
        self.timeouts = timeouts or Timeouts()
        self.mask = SecretMask(endpoint.api_key, endpoint.headers)
        self.addresses = Addresses(split_base_url(name, endpoint.base_url))
        self.overflow = OverflowWords(endpoint.context_overflow)
        self._headers = call_headers(name, wire, endpoint)
        self._connections = ConnectionPool(
            name,
            URL(self.addresses.base.geturl()),
            connect_seconds=self.timeouts.connect,
            trust_env=endpoint.trust_env,
        )
        self._calls = RunningCalls(name)
        self._tasks: set[asyncio.Task[None]] = set()

    def with_key(self, api_key: str) -> Self:
        """Return this provider with another key. It shares the connections, and is closed with this one.

        Raises ConfigurationError if a header cannot carry the key.
        """
        keyed = copy(self)
        keyed.endpoint = replace(self.endpoint, api_key=api_key, signer=None)
        keyed.mask = SecretMask(api_key, self.endpoint.headers)
        keyed._headers = call_headers(self.name, self.wire, keyed.endpoint)  # noqa: SLF001 - its own class
        return keyed

    async def close(self) -> None:
        """Close all connections. Calls in progress raise ConnectionFailed.

        Requests of `send_in_background` may take some seconds to end.
        """
        self._calls.close()
        if self._tasks:
            await asyncio.wait(self._tasks)  # each has a deadline
        self._connections.close()

    async def send(self, request: HttpRequest, accept: str | None = None) -> Connection:
        """Send one request and wait for the head of its answer. The caller must `release` the connection.

        If the server does not know the address, and the base URL allows another one (`Addresses.other`), the
        other address is tried once.

        Args:
            request: The request.
            accept: Media type to accept. None: that of the stream.

        Raises OSError and BadAnswer, ProviderError if no connection can be opened, and AuthenticationFailed
        if the request cannot be signed.
        """
        connection = await self._post(self.addresses.of(request.path), request, accept)
        if connection.status not in _MISSING_PATH:
            return connection
        if (other := self.addresses.other(request.path)) is None:
            return connection
        base, url = other
        try:
            second = await self._post(url, request, accept)
        except (OSError, BadAnswer, ProviderError) as error:
            logger.debug("%s cannot be called at %s: %r", self.name, url.raw_path, error)
            return connection
        except BaseException:
            self.release(connection)
            raise
        if 200 <= second.status < 300 and second.content_type != "text/html":
            logger.warning("%s is called at %s: write base_url = %r", self.name, url.raw_path, base.geturl())
            self.addresses.settle(base)
            self.release(connection)
            return second
        self.addresses.settle()
        self.release(second)
        return connection

    def send_in_background(self, request: HttpRequest, purpose: str) -> None:
        """Send a request that cancels something. Does not wait. A failure is logged, with the `purpose`."""
        task = asyncio.get_running_loop().create_task(self._send_for(request, purpose), name=purpose)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_for(self, request: HttpRequest, purpose: str) -> None:
        try:
            async with asyncio.timeout(BACKGROUND_SECONDS):
                connection = await self.send(request, "application/json")
        except (OSError, BadAnswer, ProviderError) as error:  # TimeoutError is an OSError
            logger.warning("%s: %s: this failed: %s", self.name, purpose, self.mask.text(str(error)))
            return
        if connection.status >= 400 and connection.status not in _TOO_LATE:
            logger.warning("%s: %s: the provider answers %d", self.name, purpose, connection.status)
        self.release(connection)

    async def _post(self, url: URL, request: HttpRequest, accept: str | None) -> Connection:
        """Send one request and follow redirects within the provider's origin."""
        status = 0
        for _ in range(MOST_REDIRECTS):
            connection = await self._send_to(url, request, accept)
            if not 300 <= connection.status < 400:
                return connection
            status, location = connection.status, connection.headers.get("Location")
            self.release(connection)
            url = redirect_target(self.name, url, status, location)
        raise too_many_redirects(self.name, url, status)

    async def _send_to(self, url: URL, request: HttpRequest, accept: str | None) -> Connection:
        headers = CIMultiDict(request.headers)
        headers.update(self._headers)
        if accept is not None:
            headers["Accept"] = accept
        body = request.body
        if (signer := self.endpoint.signer) is not None:
            await signer.prepare()
            self.mask.add(signer.secrets)
            headers.update(signer.sign(request.method, str(url), headers, body))
        return await self._connections.ask(request.method, url, headers, body)

    def release(self, connection: Connection) -> None:
        """Release the connection of a finished call. It is reused, or cut if its answer has not ended."""
        self._connections.release(connection)

    def register(self, call: RunningCall) -> None:
        """Register a call for `close`. Raises ConnectionFailed if the provider is closed."""
        self._calls.add(call)

    def unregister(self, call: RunningCall) -> None:
        self._calls.discard(call)


def redirect_target(name: str, url: URL, status: int, location: str | None) -> URL:
    """Return the URL to which a redirected request must be sent again.

    Raises ProviderFailed, which names the target, if the origin or the method would change.
    """
    try:
        target = url.join(URL((location or "").strip())).with_fragment(None) if location else None
    except ValueError:
        target = None
    if target is None:
        raise _redirect_refusal(name, status, "without a target")
    if status not in _METHOD_PRESERVING:
        raise _redirect_refusal(
            name, status, f"to {_masked_target(target)}, which would change the request's method"
        )
    if target.user or target.password or _origin(target) != _origin(url):
        raise _redirect_refusal(name, status, f"to another origin, {_masked_target(target)}")
    return target


def too_many_redirects(name: str, url: URL, status: int) -> ProviderFailed:
    """Return the error of a call with too many redirects."""
    return ProviderFailed(
        f"{name}: it redirects again and again, last to {_masked_target(url)}",
        retryable=False,
        provider_status=status,
    )


def _redirect_refusal(name: str, status: int, where: str) -> ProviderFailed:
    return ProviderFailed(
        f"{name}: it redirects {where}; if that is right, set base_url to it",
        retryable=False,
        provider_status=status,
    )


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


def _masked_target(target: URL) -> str:
    """Return the target without parts that may be secret."""
    plain = target.with_query(None).with_fragment(None)
    if plain.absolute and plain.host:
        plain = plain.with_user(None)
    return str(plain)[:_LONGEST_TARGET]
