"""A TCP proxy between a client and a server, whose network a test makes bad.

    with TcpProxy(server, frontend_messages) as proxy:
        proxy.cut()                                       # every connection is reset
        fault = proxy.arm(AtMessage(b"COMMIT", "after"))   # the server commits, and its answer is lost
        …
        fault.wait()

The proxy works in a thread of its own, so the test may block. A connection that hangs keeps its bytes:
`resume` delivers them.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

from tests.nodes.messages import ClientMessage, Splitter, whole
from tests.nodes.triggers import Action, Armed, AtByte, AtMessage, Trigger

DEADLINE = 20.0
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)

Address: TypeAlias = Path | tuple[str, int]
"""A Unix socket, or a host and a port."""


class TcpProxy:
    """A proxy on a free port of 127.0.0.1, open inside its `with` block.

    Args:
        server: Address of the server.
        splitter: Makes the function that splits what one client sends into messages, for `AtMessage`.
    """

    def __init__(self, server: Address, splitter: Callable[[], Splitter] = lambda: whole) -> None:
        self.server = server
        self.splitter = splitter
        self.port = 0
        self.delay = 0.0
        """Seconds from the arrival of a client's bytes to their delivery: they lengthen each round trip."""
        self.accepted = 0
        """Number of connections so far."""
        self.stalled = False
        self._armed: list[Armed] = []
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        # select() waits for fractions of a millisecond, which epoll rounds up.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        asyncio.run_coroutine_threadsafe(self._settle(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    # -- faults ----------------------------------------------------------------------------------------------

    def arm(self, trigger: Trigger, action: Action = "cut") -> Armed:
        """Let `action` happen once, at `trigger`, on the connection that meets it first."""
        armed = Armed(trigger, action)
        self._do(partial(self._armed.append, armed))
        return armed

    def cut(self) -> None:
        """Reset all connections. New ones are accepted."""
        self._do(lambda: [connection.cut() for connection in tuple(self._connections)])

    def half_open(self) -> None:
        """Close all connections to the server. Their clients are not told, and get nothing any more."""
        self._do(lambda: [connection.half_open() for connection in tuple(self._connections)])

    def stall(self) -> None:
        """Deliver nothing, in both directions, until `resume`. Connections stay open, new ones too."""

        def stall() -> None:
            self.stalled = True
            for connection in self._connections:
                connection.stall()

        self._do(stall)

    def resume(self) -> None:
        """Deliver what a stall has kept back, of the whole proxy or of one connection."""

        def resume() -> None:
            self.stalled = False
            for connection in tuple(self._connections):
                connection.resume()

        self._do(resume)

    def refuse(self) -> None:
        """Refuse new connections until `accept`."""

        def refuse() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._do(refuse)

    def accept(self) -> None:
        """Accept connections, on the same port as before."""

        async def listen() -> None:
            listening = socket.create_server(("127.0.0.1", self.port))
            self.port = listening.getsockname()[1]
            self._listener = await self._loop.create_server(lambda: Connection(self).client, sock=listening)

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(DEADLINE)

    # -- for connections, in the proxy's thread --------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        self.accepted += 1
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def of_kind(self, kind: type[Any]) -> Iterator[Armed]:
        """Yield the faults of a kind of trigger that have not happened."""
        return (armed for armed in tuple(self._armed) if isinstance(armed.trigger, kind))

    def fire(self, armed: Armed) -> None:
        self._armed.remove(armed)
        armed.fired.set()

    async def _settle(self) -> None:
        """Wait for the tasks that connect: all connections were cut."""
        connecting = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*connecting, return_exceptions=True)

    def _do(self, change: Callable[[], object]) -> None:
        """Run `change` in the proxy's thread. Return after it."""

        async def run() -> None:
            change()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE)


class _Waiting(NamedTuple):
    """Bytes to deliver or an action to take, at a time of the loop's clock."""

    due: float
    item: bytes | Callable[[], None]


class Side(asyncio.Protocol):
    """One end of a connection. What it receives goes to the other end, later."""

    transport: asyncio.Transport | None = None
    other: Side

    def __init__(self, connection: Connection, *, is_client: bool) -> None:
        self.connection = connection
        self.is_client = is_client
        self.received = 0
        self.queue: deque[_Waiting] = deque()
        """For the other end."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connection.made(self)

    def data_received(self, data: bytes) -> None:
        self.connection.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.put(self.connection.close)

    def pause_writing(self) -> None:
        self.other.read(on=False)

    def resume_writing(self) -> None:
        self.other.read(on=True)

    def read(self, *, on: bool) -> None:
        if self.transport is not None and not self.transport.is_closing():
            if on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def put(self, item: bytes | Callable[[], None]) -> None:
        delay = self.connection.proxy.delay if self.is_client else 0.0
        self.queue.append(_Waiting(self._loop.time() + delay, item))
        self.deliver()

    def deliver(self) -> None:
        """Deliver what is due, unless the connection stalls, and come back for the rest."""
        self._timer = None
        while self.queue and not self.connection.stalled and self.other.transport is not None:
            if self.queue[0].due > self._loop.time():
                self._timer = self._timer or self._loop.call_at(self.queue[0].due, self.deliver)
                return
            item = self.queue.popleft().item
            if isinstance(item, bytes):
                self.other.transport.write(item)
            else:
                item()


class Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.client = Side(self, is_client=True)
        self.server = Side(self, is_client=False)
        self.client.other, self.server.other = self.server, self.client
        self.stalled = proxy.stalled
        self._is_half_open = False
        self._split = proxy.splitter()
        self._at_answer: Armed | None = None
        """The fault that the server's next bytes cause."""
        self._connecting: asyncio.Task[object] | None = None
        proxy.add(self)

    def made(self, side: Side) -> None:
        if side is self.client:
            self._connecting = asyncio.ensure_future(self._connect())
        else:
            self.client.deliver()
        if self.stalled:
            side.read(on=False)

    async def _connect(self) -> None:
        loop, address = asyncio.get_running_loop(), self.proxy.server
        try:
            if isinstance(address, Path):
                await loop.create_unix_connection(lambda: self.server, str(address))
            else:
                await loop.create_connection(lambda: self.server, *address)
        except OSError:
            self.cut()  # the client sees a server that is not there

    def received(self, side: Side, data: bytes) -> None:
        if self._is_half_open:
            return
        if side is self.server and self._at_answer is not None:
            armed, self._at_answer = self._at_answer, None
            self._act(armed)
            if armed.action == "stall":
                side.put(data)
            return
        for message in self._split(data) if side is self.client else whole(data):
            self._pass_on(side, message)

    def _pass_on(self, side: Side, message: ClientMessage) -> None:
        """Pass a message or some bytes on, up to the place of a fault that they reach."""
        piece = message.data
        for armed in self.proxy.of_kind(AtMessage) if side is self.client else ():
            trigger = armed.trigger
            assert isinstance(trigger, AtMessage)
            if not trigger.is_met(message):
                continue
            armed.seen += 1
            if armed.seen != trigger.occurrence:
                continue
            if trigger.moment == "after":
                self._at_answer = armed
            else:
                before = len(piece) // 2 if trigger.moment == "within" else 0
                self._split_at(side, piece, before, armed)
                return
        for armed in self.proxy.of_kind(AtByte):
            trigger = armed.trigger
            assert isinstance(trigger, AtByte)
            place = trigger.offset - side.received
            if (trigger.direction == "to_server") == side.is_client and 0 <= place < len(piece):
                self._split_at(side, piece, place, armed)
                return
        side.received += len(piece)
        side.put(piece)

    def _split_at(self, side: Side, piece: bytes, place: int, armed: Armed) -> None:
        side.received += len(piece)
        if place:
            side.put(piece[:place])
        side.put(partial(self._act, armed))
        if armed.action == "stall":
            side.put(piece[place:])

    def _act(self, armed: Armed) -> None:
        match armed.action:
            case "cut":
                self.cut()
            case "half_open":
                self.half_open()
            case "stall":
                self.stall()
        self.proxy.fire(armed)

    def stall(self) -> None:
        self.stalled = True
        self.client.read(on=False)
        self.server.read(on=False)

    def resume(self) -> None:
        self.stalled = False
        for side in (self.client, self.server):
            side.read(on=True)
            side.deliver()

    def half_open(self) -> None:
        self._is_half_open = True
        _reset(self.server)

    def cut(self) -> None:
        self.proxy.discard(self)
        if self._connecting is not None and self.server.transport is None:
            self._connecting.cancel()
        _reset(self.client)
        _reset(self.server)

    def close(self) -> None:
        """Close both ends, after one was closed. The client of a half-open connection is not told."""
        if (
            self._is_half_open
            and self.client.transport is not None
            and not self.client.transport.is_closing()
        ):
            return
        self.proxy.discard(self)
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.close()


def _reset(side: Side) -> None:
    if side.transport is not None and not side.transport.is_closing():
        own = side.transport.get_extra_info("socket")
        if own.family == socket.AF_INET:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        side.transport.abort()
