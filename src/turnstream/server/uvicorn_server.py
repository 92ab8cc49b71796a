"""The application on uvicorn: bind, report the address, serve, and drain when a signal arrives.

`process_signals` describes the first two signals. At the third, Python's default action applies. Watchers
still receive the last events of turns that end in this time. Connections that read nothing are cut after
`FLUSH_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from turnstream.errors import ConfigurationError
from turnstream.process_signals import Drain, SignalledDrain, default_signals, ending_signals
from turnstream.server.connection import ConnectionProtocol

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 65
"""Seconds before an idle connection is closed.

Longer than in common clients and proxies, so that they close it first.
"""
FLUSH_SECONDS = 5.0
"""Seconds that the last answers have to reach their clients after all turns have ended."""

SWITCH_SECONDS = 0.0005
"""Seconds after which a thread that encodes a large answer or history yields the GIL to the event loop.

Python's default of 5 ms would delay each event that arrives in the meantime.
"""

THRESHOLDS = (10_000, 20, 20)
"""Thresholds of the garbage collector's generations. A collection of the youngest takes at most 1 ms."""

_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def tune_garbage_collector() -> None:
    """Configure Python's garbage collector for a process that serves streams.

    A collection stops all streams.
    """
    # Frozen objects are not scanned again, which would take 0.1 s in each full collection.
    gc.collect()
    gc.freeze()
    # Turns and requests leave no reference cycles, so collections can be rare.
    gc.set_threshold(*THRESHOLDS)


async def cancel_leftovers(seconds: float) -> list[str]:
    """Cancel all other tasks, and wait `seconds` for their end. Return the names of tasks that still run.

    An operator's tool or source may suppress its cancellation. The event loop cannot be closed while such a
    task runs, so the caller must end the process.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        _, others = await asyncio.wait(others, timeout=seconds)
    return sorted(task.get_name() for task in others)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on all addresses of `host`, with the same port.

    Connections queue until they are served.

    Args:
        host: Name or address. "" means all addresses of this machine.
        port: 0 takes a free port.

    Raises ConfigurationError if no address can be bound, or the port is taken on one of them.
    """
    name = host.strip("[]")
    try:
        found = socket.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}: {error.strerror}; give an address of this machine, such as 127.0.0.1"
        ) from error
    bound: list[socket.socket] = []
    failure = OSError(errno.EADDRNOTAVAIL, "there is no such address")
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one_port = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bound(family, kind, protocol, (address[0], one_port, *address[2:])))
        except OSError as error:
            failure = error
            if error.errno not in _NO_SUCH_ADDRESS:
                _close(bound)
                bound = []
                break
    if not bound:
        remedy = (
            "choose another --port" if failure.errno == errno.EADDRINUSE else "give another --host or --port"
        )
        raise ConfigurationError(f"cannot listen on {host or '*'}:{port}: {failure.strerror}; {remedy}")
    return bound


def address_of(bound: Sequence[socket.socket], host: str) -> str:
    """Return the URL at which a client on this machine reaches the sockets of `bind(host, …)`."""
    given, port = bound[0].getsockname()[:2]
    name = host.strip("[]")
    if ipaddress.ip_address(given.partition("%")[0]).is_unspecified:
        name = "::1" if bound[0].family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop: uvloop's if it is installed, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def run_application(
    application: ASGIApp,
    bound: Sequence[socket.socket],
    *,
    drain: Drain,
    grace: float,
    on_listening: Callable[[], None],
) -> None:
    """Serve until signals stop the server, as described in this module.

    The application's lifespan is not run: the caller keeps the engine open during this call.

    Args:
        application: The ASGI application.
        bound: Sockets from `bind`. They are closed at the end.
        drain: `Engine.drain`. It is called with the grace time in seconds.
        grace: Seconds that running turns have after the first signal.
        on_listening: Called when the server accepts connections.
    """
    server = draining_server(application, drain=drain, grace=grace, on_listening=on_listening)
    await server.serve(list(bound))


def draining_server(
    application: ASGIApp, *, drain: Drain, grace: float, on_listening: Callable[[], None]
) -> DrainingServer:
    """Return the server of `run_application`, which the caller serves. The arguments are the same."""
    config = uvicorn.Config(
        application,
        http=ConnectionProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(2 * FLUSH_SECONDS),
    )
    return DrainingServer(config, drain=drain, grace=grace, on_listening=on_listening)


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which drains when a signal arrives."""

    def __init__(
        self, config: uvicorn.Config, *, drain: Drain, grace: float, on_listening: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._draining = SignalledDrain(drain, grace, self._drained)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        tune_garbage_collector()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with ending_signals(self.end_by_signal):
            yield

    def end_by_signal(self, _number: signal.Signals | None = None) -> None:
        """Handle a signal. Each call counts as one signal."""
        self._draining.signalled()
        if self._draining.signals > 1:
            default_signals()

    def _drained(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._abort_connections)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
        await self._draining.wait()

    def _abort_connections(self) -> None:
        connections = [
            connection
            for connection in cast("set[object]", self.server_state.connections)
            if isinstance(connection, ConnectionProtocol)
        ]
        logger.warning("cutting %d connections that did not take their last events", len(connections))
        for connection in connections:
            connection.abort()


def _bound(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[Any, ...]
) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        # `bind` alone does not reserve the port: `listen` fails for the second process.
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _close(bound: Sequence[socket.socket]) -> None:
    for listener in bound:
        listener.close()
