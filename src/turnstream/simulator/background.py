"""Background responses: the answers that the simulated OpenAI keeps, so that a stream can be resumed.

`GET /v1/responses/{id}` returns the response object. With `?stream=true&starting_after=N` it streams the
events after number N, without the fault of the first stream. Those of the past come at once.
`POST /v1/responses/{id}/cancel` cancels a response. Memory is bounded: the newest responses are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import msgspec
from aiohttp import web

from turnstream.errors import ModelNotFound, ProviderError
from turnstream.simulator.actions import Action, Refuse, Send
from turnstream.simulator.performing import perform
from turnstream.simulator.playback import PlayContext, play, prepare
from turnstream.simulator.replay import split_events
from turnstream.wires.base import ModelRequest
from turnstream.wires.openai_responses.wire import BACKGROUND_WIRE

RESPONSES_KEPT = 64
BYTES_KEPT = 16 * 1024 * 1024

_WIRE = BACKGROUND_WIRE
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d+)')
_LAST_SEQUENCE = 2**53


class _KeptResponse:
    """A response: its events, and the seconds between two of them."""

    def __init__(self, events: tuple[bytes, ...], pace: float) -> None:
        self.events = events
        self.pace = pace
        self.began = monotonic()
        self.cancelled = False
        self.size = sum(map(len, events))
        self.response: dict[str, Any] = _data(events[0])["response"]

    def answer(self) -> dict[str, Any]:
        """Return the response object for a GET."""
        if self.cancelled:
            return {**self.response, "status": "cancelled"}
        return _data(self.events[-1]).get("response") or self.response

    def after(self, number: int) -> Iterator[Action]:
        """Yield the events after `number`. The model has made those of the past already."""
        reached = monotonic()
        for place, event in enumerate(self.events):
            if self.cancelled:
                break
            found = _SEQUENCE.search(event)
            if found is None or int(found[1]) > number:
                wait = max(0.0, self.began + place * self.pace - reached)
                reached += wait
                yield Send(wait, event)
        if self.cancelled:
            yield self.cancellation()

    def cancellation(self) -> Send:
        """Return the last event of a cancelled stream."""
        said = {"type": "response.cancelled", "response": self.answer(), "sequence_number": _LAST_SEQUENCE}
        return Send(0.0, b"event: response.cancelled\ndata: %b\n\n" % msgspec.json.encode(said))


class BackgroundResponses:
    """Keeps the newest responses, at most RESPONSES_KEPT and BYTES_KEPT."""

    def __init__(self) -> None:
        self._kept: dict[str, _KeptResponse] = {}
        self._size = 0

    def find(self, identity: str) -> _KeptResponse | None:
        return self._kept.get(identity)

    def play(self, asked: ModelRequest, context: PlayContext) -> Iterator[Action]:
        """Yield the actions of `playback.play`, and keep the response.

        If no stream is requested, only queue the response. The options `times` and `lasting` are
        ignored.
        """
        context = context._replace(outages=None)
        try:
            prepared = prepare(asked, _WIRE, context, without_fault=True)
        except ProviderError as error:
            yield Refuse.of(error, _WIRE)
            return
        kept = _KeptResponse(split_events(_WIRE, b"".join(prepared.frames)), prepared.pace)
        self._keep(kept)
        if not asked.stream:
            yield Send(0.0, msgspec.json.encode({**kept.response, "status": "queued"}))
            return
        for action in play(asked, _WIRE, context):
            if kept.cancelled:
                yield kept.cancellation()
                return
            yield action

    def _keep(self, kept: _KeptResponse) -> None:
        identity = str(kept.response.get("id"))
        if (old := self._kept.pop(identity, None)) is not None:
            self._size -= old.size
        self._kept[identity] = kept
        self._size += kept.size
        while len(self._kept) > RESPONSES_KEPT or self._size > BYTES_KEPT:
            self._size -= self._kept.pop(next(iter(self._kept))).size


def add_routes(
    app: web.Application, responses: BackgroundResponses, report: Callable[[str], None] | None = None
) -> None:
    """Add the routes for responses that are kept. `report`: called with a line about each cancellation."""
    for prefix in ("/v1", ""):
        app.router.add_get(prefix + "/responses/{id}", partial(_get, responses))
        app.router.add_post(prefix + "/responses/{id}/cancel", partial(_cancel, responses, report))


async def _get(responses: BackgroundResponses, request: web.Request) -> web.StreamResponse:
    kept = responses.find(request.match_info["id"])
    if kept is None:
        return _unknown()
    if request.query.get("stream") != "true":
        return web.json_response(kept.answer())
    try:
        after = int(request.query.get("starting_after", -1))
    except ValueError:
        after = -1
    headers = {"Content-Type": _WIRE.content_type, "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        await perform(kept.after(after), request, response, lambda _size: None)
    except ConnectionError:
        pass  # the client has disconnected
    return response


async def _cancel(
    responses: BackgroundResponses, report: Callable[[str], None] | None, request: web.Request
) -> web.StreamResponse:
    kept = responses.find(request.match_info["id"])
    if kept is None:
        return _unknown()
    kept.cancelled = True
    if report is not None:
        report(f"POST {request.path}: the response is cancelled")
    return web.json_response(kept.answer())


def _unknown() -> web.Response:
    status, body = _WIRE.encode_error(ModelNotFound("no such response"))
    return web.Response(status=status, body=body, content_type="application/json")


def _data(event: bytes) -> dict[str, Any]:
    line = next(line for line in event.splitlines() if line.startswith(b"data:"))
    return msgspec.json.decode(line.removeprefix(b"data:"))
