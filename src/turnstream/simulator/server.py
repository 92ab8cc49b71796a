"""The simulated provider as a server: a look-alike of both APIs, for tests, load and the official SDKs.

`POST /v1/messages` speaks the wire `anthropic`, `POST /v1/chat/completions` the wire `openai-chat`, `GET /v1/models`
both; each is also there without `/v1`. Models are named as `simulator.options` says. It asks for no key.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import TracebackType
from typing import assert_never

import msgspec
from aiohttp import web

from turnstream.errors import ConfigurationError, InvalidModelRequest, InvalidRequest, RequestError
from turnstream.simulator.actions import Action, Cut, Hang, Refuse, Reset, Send, Stall
from turnstream.simulator.options import SCRIPT_NAMES
from turnstream.simulator.playback import play
from turnstream.wires import WIRES
from turnstream.wires.base import Wire

Reporter = Callable[[str], None]

REQUEST_LIMIT = 32 * 1024 * 1024
"""Bytes that a request's body may have."""
_PATHS = {"anthropic": "/messages", "openai-chat": "/chat/completions"}
_WRITES_PER_TURN = 16
"""Unpaced writes after which other requests get their turn."""
_NO_LINGER = struct.pack("ii", 1, 0)


class SimulatorServer:
    """The server, as an async context manager: it listens inside it, at `url`.

    `port` 0 takes a free port. `report` is called with a line about each request. Raises ConfigurationError where
    the address cannot be listened on.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, report: Reporter | None = None) -> None:
        self.host = host
        self.port = port
        self._runner = web.AppRunner(
            application(report), handler_cancellation=True, access_log=None, shutdown_timeout=0.5
        )

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> SimulatorServer:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port, backlog=2048).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            ) from error
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()


async def serve(port: int, host: str = "127.0.0.1", report: Reporter | None = None) -> None:
    """Serve until cancelled. Raises ConfigurationError where the address cannot be listened on."""
    async with SimulatorServer(host, port, report) as server:
        if report is not None:
            report(f"simulated models {', '.join(SCRIPT_NAMES)} at {server.url}")
        await asyncio.get_running_loop().create_future()


def application(report: Reporter | None = None) -> web.Application:
    """The server's routes as an aiohttp application; run it with `handler_cancellation`."""
    app = web.Application(client_max_size=REQUEST_LIMIT)
    for prefix in ("/v1", ""):
        for wire_name, path in _PATHS.items():
            app.router.add_post(prefix + path, _Route(WIRES[wire_name], report).answer)
        app.router.add_get(prefix + "/models", _models)
    return app


async def _models(_request: web.Request) -> web.Response:
    """One list that both SDKs read."""
    models = [
        {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "turnstream",
            "type": "model",
            "display_name": f"Simulated: {name}",
            "created_at": "1970-01-01T00:00:00Z",
        }
        for name in SCRIPT_NAMES
    ]
    return web.json_response(
        {
            "object": "list",
            "data": models,
            "has_more": False,
            "first_id": SCRIPT_NAMES[0],
            "last_id": SCRIPT_NAMES[-1],
        }
    )


class _Asked(msgspec.Struct):
    stream: bool | None = None


class _Route:
    """How the server answers on one wire."""

    def __init__(self, wire: Wire, report: Reporter | None) -> None:
        self._wire = wire
        self._report = report

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            asked = self._wire.decode_request(request.path, body)
            if not msgspec.json.decode(body, type=_Asked).stream:
                raise InvalidRequest('the simulator answers as a stream only: ask with "stream": true')
        except RequestError as error:
            self._tell(f"POST {request.path} 400: {error.message}")
            status, words = self._wire.encode_error(InvalidModelRequest(error.message))
            return _error(status, words)
        said = f"POST {request.path} model={asked.model} messages={len(asked.messages)} bytes={len(body)}"
        actions = play(asked, self._wire)
        first = next(actions, None)
        if isinstance(first, Refuse):
            self._tell(f"{said} {first.status}")
            return _error(first.status, first.body, first.headers)
        self._tell(said)
        try:
            return await self._stream(request, first, actions)
        except asyncio.CancelledError:
            self._tell(f"{said}: the client went away")
            raise

    async def _stream(
        self, request: web.Request, first: Action | None, actions: Iterator[Action]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": self._wire.content_type, "Cache-Control": "no-cache"}
        )
        if isinstance(first, Hang):
            await asyncio.get_running_loop().create_future()
        if isinstance(first, Reset):
            _reset(request)
            return response
        await response.prepare(request)
        try:
            await _perform(chain(() if first is None else (first,), actions), request, response)
        except ConnectionError:
            self._tell(f"POST {request.path}: the client went away")
        return response

    def _tell(self, line: str) -> None:
        if self._report is not None:
            self._report(line)


async def _perform(actions: Iterator[Action], request: web.Request, response: web.StreamResponse) -> None:
    """Play the actions on the socket. Delays count from the start, so a paced answer keeps its rate."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number, action in enumerate(actions):
        match action:
            case Send(delay, data):
                due += delay
                if delay and (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                elif number % _WRITES_PER_TURN == 0:
                    await asyncio.sleep(0)
                await response.write(data)
            case Stall(ping, every):
                await _stall(response, ping, every)
            case Cut():
                _cut(request)
            case Reset():
                _reset(request)
            case Refuse() | Hang():
                raise AssertionError("comes first, or not at all")
            case _:
                assert_never(action)


async def _stall(response: web.StreamResponse, ping: bytes, every: float) -> None:
    while every:
        await asyncio.sleep(every)
        await response.write(ping)
    await asyncio.get_running_loop().create_future()


def _cut(request: web.Request) -> None:
    """Close the connection; what was written still arrives, but the body has no end."""
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.Request) -> None:
    """Reset the connection: without lingering, the kernel says RST in place of FIN."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _error(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=body, headers={**(headers or {}), "Content-Type": "application/json"}
    )
