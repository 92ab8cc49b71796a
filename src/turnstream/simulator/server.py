"""The simulated provider as a server. It mimics each API, for tests, load and the official SDKs.

    POST /v1/messages             wire `anthropic`
    POST /v1/chat/completions     wire `openai-chat`
    POST /v1/responses            wire `openai-responses`; `background` has more routes
    POST /api/chat                wire `ollama`
    POST /v1beta/models/MODEL:streamGenerateContent and :generateContent
                                  wire `gemini`; also below `/v1`, and below `/v1beta1/projects/…` as in
                                  Vertex AI. Without `?alt=sse` a stream is one JSON array.
    POST /model/MODEL/converse-stream and /converse
                                  wire `bedrock`
    GET /v1/models, GET /api/tags
                                  lists of the models
    GET /_simulator/requests      the logged requests (`?limit=`, newest last); DELETE clears them

The first three, and `/v1/models`, also work without `/v1`. `simulator.options` describes the names of models.
No key is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec
from aiohttp import web

from turnstream.errors import ConfigurationError, InvalidModelRequest, InvalidRequest, RequestError
from turnstream.simulator.actions import Action, Hang, Refuse, ResetConnection
from turnstream.simulator.background import BackgroundResponses, add_routes
from turnstream.simulator.options import HEADER, REPLAY, SCRIPT_NAMES
from turnstream.simulator.outages import Outages
from turnstream.simulator.performing import perform, reset
from turnstream.simulator.playback import PlayContext, play
from turnstream.simulator.replay import Replay
from turnstream.simulator.request_log import REQUESTS_KEPT, LoggedRequest, RequestLog, header_text
from turnstream.simulator.whole_answer import play_whole
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest, Wire
from turnstream.wires.gemini.wire import ARRAY_WIRE

Reporter = Callable[[str], None]

REQUEST_LIMIT = 32 * 1024 * 1024
"""Bytes that a request's body may have."""
_PATHS = {
    "anthropic": ("/v1/messages", "/messages"),
    "openai-chat": ("/v1/chat/completions", "/chat/completions"),
    "openai-responses": ("/v1/responses", "/responses"),
    "ollama": ("/api/chat",),
    "bedrock": ("/model/{model:.+}/converse-stream", "/model/{model:.+}/converse"),
}
_ERROR_KEPT = 2000
_LOG_PATH = "/_simulator/requests"
_GEMINI_PATHS = ("/v1beta/models/{call:.+}", "/v1/models/{call:.+}", "/{version:v1[^/]*}/projects/{call:.+}")


class Answers(NamedTuple):
    """A recorded body to answer with instead of the scripts, and the log of requests."""

    replay: Replay | None = None
    log: RequestLog | None = None


class SimulatorServer:
    """The server as an async context manager. It listens at `url`, and notes requests in `log`.

    Args:
        host: Address to listen on.
        port: Port to listen on. 0: a free port.
        report: Called with a line about each request.
        answers: Recorded body and log. None: the scripts, and a log in memory.

    Raises ConfigurationError if it cannot listen on the address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        report: Reporter | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.host = host
        self.port = port
        answers = answers or Answers()
        self.log = answers.log or RequestLog()
        self._runner = web.AppRunner(
            application(report, Answers(answers.replay, self.log)),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.5,
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

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def application(report: Reporter | None = None, answers: Answers | None = None) -> web.Application:
    """Return the server's routes as an aiohttp application. Run it with `handler_cancellation`."""
    replay, given = answers or Answers()
    log = RequestLog() if given is None else given
    app = web.Application(client_max_size=REQUEST_LIMIT)
    kept = BackgroundResponses()
    add_routes(app, kept, report)
    for wire_name, paths in _PATHS.items():
        route = _Route(WIRES[wire_name], replay, log, report)
        route.background = kept if wire_name == "openai-responses" else None
        for path in paths:
            app.router.add_post(path, route.answer)
    as_events = _Route(WIRES["gemini"], replay, log, report)
    as_array = _Route(ARRAY_WIRE, replay, log, report) if replay is None else as_events
    for path in _GEMINI_PATHS:
        app.router.add_post(path, partial(_requested_wire, as_events, as_array))
    names = SCRIPT_NAMES if replay is None else (REPLAY,)
    for path in ("/v1/models", "/models"):
        app.router.add_get(path, partial(_models, names))
    app.router.add_get("/api/tags", partial(_tags, names))
    app.router.add_get(_LOG_PATH, partial(_requests, log))
    app.router.add_delete(_LOG_PATH, partial(_forget, log))
    return app


async def _requested_wire(as_events: _Route, as_array: _Route, request: web.Request) -> web.StreamResponse:
    route = as_events if request.query.get("alt") == "sse" else as_array
    return await route.answer(request)


async def _requests(log: RequestLog, request: web.Request) -> web.Response:
    try:
        limit = int(request.query.get("limit", REQUESTS_KEPT))
    except ValueError:
        limit = REQUESTS_KEPT
    body = msgspec.json.encode({"requests": log.newest(max(0, limit))})
    return web.Response(body=body, content_type="application/json")


async def _forget(log: RequestLog, _request: web.Request) -> web.Response:
    log.clear()
    return web.Response(status=204)


async def _tags(names: Sequence[str], _request: web.Request) -> web.Response:
    """Return the list that Ollama's client reads."""
    models = [{"name": name, "model": name, "modified_at": "1970-01-01T00:00:00Z"} for name in names]
    return web.json_response({"models": models})


async def _models(names: Sequence[str], _request: web.Request) -> web.Response:
    """Return one list that both SDKs can read."""
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
        for name in names
    ]
    return web.json_response(
        {
            "object": "list",
            "data": models,
            "has_more": False,
            "first_id": names[0],
            "last_id": names[-1],
        }
    )


class _Route:
    """Answers requests on one wire."""

    def __init__(self, wire: Wire, replay: Replay | None, log: RequestLog, report: Reporter | None) -> None:
        self._wire = wire
        self._replay = replay
        self._outages = Outages()
        self._log = log
        self._report = report
        self.background: BackgroundResponses | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        noted = self._log.begin(request.method, request.path, request.headers, body)
        noted.answered.wire = self._wire.name
        if (asked := request.headers.get(HEADER)) is not None:
            noted.answered.simulate = header_text(asked)
        try:
            return await self._answer(request, body, noted)
        except asyncio.CancelledError:
            noted.answered.ended = "client went away"
            raise
        finally:
            self._log.end(noted)

    async def _answer(self, request: web.Request, body: bytes, noted: LoggedRequest) -> web.StreamResponse:
        try:
            asked = self._decode_request(request.rel_url.raw_path, body)
        except RequestError as error:
            self._report_line(f"POST {request.path} 400: {error.message}")
            status, words = self._wire.encode_error(InvalidModelRequest(error.message))
            return _error(noted, status, words)
        said = f"POST {request.path} model={asked.model} messages={len(asked.messages)} bytes={len(body)}"
        context = PlayContext(request.headers.get(HEADER, ""), self._replay, self._outages)
        if self.background is not None and asked.params.get("background"):
            actions = self.background.play(asked, context)
        else:
            player = play if asked.stream else play_whole
            actions = player(asked, self._wire, context)
        first = next(actions, None)
        noted.answered.stream = asked.stream
        if isinstance(first, Refuse):
            self._report_line(f"{said} {first.status}")
            return _error(noted, first.status, first.body, first.headers)
        self._report_line(said)
        try:
            return await self._perform(request, first, actions, noted)
        except asyncio.CancelledError:
            self._report_line(f"{said}: the client went away")
            raise

    def _decode_request(self, path: str, body: bytes) -> ModelRequest:
        """Decode a request. Raises RequestError."""
        asked = self._wire.decode_request(path, body)
        if self._replay is not None and self._replay.wire is not self._wire:
            raise InvalidRequest(
                f"the recording is of the wire {self._replay.wire.name}, not {self._wire.name}"
            )
        return asked

    async def _perform(
        self, request: web.Request, first: Action | None, actions: Iterator[Action], noted: LoggedRequest
    ) -> web.StreamResponse:
        answered = noted.answered
        media_type = self._wire.content_type if answered.stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": media_type, "Cache-Control": "no-cache"})
        if isinstance(first, Hang):
            await asyncio.get_running_loop().create_future()
        if isinstance(first, ResetConnection):
            reset(request)
            answered.ended = "broken off"
            return response
        answered.status = 200
        await response.prepare(request)

        def sent(size: int) -> None:
            answered.bytes += size

        try:
            whole = await perform(chain(() if first is None else (first,), actions), request, response, sent)
            answered.ended = "complete" if whole else "broken off"
        except ConnectionError:
            answered.ended = "client went away"
            self._report_line(f"POST {request.path}: the client went away")
        return response

    def _report_line(self, line: str) -> None:
        if self._report is not None:
            self._report(line)


def _error(
    noted: LoggedRequest, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    answered = noted.answered
    answered.status, answered.bytes, answered.ended = status, len(body), "complete"
    answered.error = body[:_ERROR_KEPT].decode("utf-8", "replace")
    return web.Response(
        status=status, body=body, headers={**(headers or {}), "Content-Type": "application/json"}
    )
