"""The look-alike of Gemini: its routes, its two framings, and the wire over a socket."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from turnstream.config import ProviderSettings
from turnstream.core.answers import fold_answer
from turnstream.errors import ModelNotFound
from turnstream.providers.catalog import Catalog
from turnstream.simulator.actions import Send
from turnstream.simulator.playback import play
from turnstream.wires.base import Wire
from turnstream.wires.gemini.wire import ARRAY_WIRE, WIRE
from turnstream.wires.recording import decode_pieces

FRAMINGS = pytest.mark.parametrize("wire", [WIRE, ARRAY_WIRE], ids=["events", "array"])


async def post(url: str, body: bytes) -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        asyncio.timeout(10),
        session.post(url, data=body) as answer,
    ):
        return answer.status, answer.content_type, await answer.read()


@pytest.mark.requirement("E1")
@pytest.mark.parametrize(
    "place", ["/v1beta/models/", "/v1/models/", "/v1beta1/projects/p/locations/l/publishers/google/models/"]
)
async def test_events_or_an_array_or_one_answer(simulator_server, ask, place):
    request = ask("tools:pace=0,chunk=7", tools=True)
    body = WIRE.encode_request(request).body
    url = f"{simulator_server.url}{place}{request.model}"
    status, kind, events = await post(f"{url}:streamGenerateContent?alt=sse", body)
    assert (status, kind, events[:6]) == (200, "text/event-stream", b"data: ")
    _, kind, array = await post(f"{url}:streamGenerateContent", body)
    assert (kind, type(json.loads(array))) == ("application/json", list)
    _, kind, whole = await post(f"{url}:generateContent", body)
    assert (kind, type(json.loads(whole))) == ("application/json", dict)
    told = decode_pieces(WIRE, [events])
    assert told["stop_reason"] == "tool_use"
    assert decode_pieces(WIRE, [array]) == told
    found = decode_pieces(WIRE, [whole])
    assert (found["blocks"], found["usage"]) == (told["blocks"], told["usage"])


async def test_what_is_no_call(simulator_server):
    for path in ("/v1beta/models/demo:countTokens", "/v1beta/models/demo"):
        status, _, words = await post(simulator_server.url + path, b'{"contents": []}')
        assert (status, json.loads(words)["error"]["status"]) == (400, "INVALID_ARGUMENT")
    status, _, words = await post(
        f"{simulator_server.url}/v1beta/models/nobody:generateContent", b'{"contents": []}'
    )
    assert (status, json.loads(words)["error"]["status"]) == (404, "NOT_FOUND")


@FRAMINGS
@pytest.mark.requirement("E6", "P5")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("error", "overloaded_error"),
        ("cut", "stream_incomplete"),
        ("no-end", "stream_incomplete"),
        ("malformed", "malformed_event"),
        ("huge-event,size=5000", None),
        ("max-tokens", None),
    ],
)
def test_each_fault_in_each_framing(ask, wire: Wire, fault: str, code: str | None):
    request = ask(f"echo:pace=0,fault={fault}")
    sent = [action.data for action in play(request, wire) if isinstance(action, Send)]
    told = decode_pieces(wire, sent)
    assert (told["error"] or {}).get("code") == code
    assert told["complete"] is (code is None)
    if fault == "malformed":
        decoder = wire.decoder(on_malformed="skip")
        events = [event for data in sent for event in decoder.feed(data)] + decoder.close()
        (block,) = fold_answer(events).blocks
        assert block.text_content == "What is the weather?"


@pytest.mark.requirement("E1", "D4")
@pytest.mark.parametrize("base", ["", "/v1beta", "/v1", "/v1beta1/projects/p/locations/l/publishers/google"])
async def test_the_provider_reaches_it_as_the_settings_say(simulator_server, ask, base: str):
    settings = ProviderSettings(base_url=simulator_server.url + base)
    catalog = Catalog({"gemini": settings}, environ={"GEMINI_API_KEY": "secret"})
    events = []
    try:
        target = catalog.resolve("gemini/thinking:pace=0")
        async with target.provider.stream(ask(target.model)) as stream:
            async for batch in stream:
                events.extend(batch)
        with pytest.raises(ModelNotFound):
            await target.provider.stream(ask("nobody")).__aenter__()
    finally:
        await catalog.close()
    answer = fold_answer(events)
    assert answer.complete
    assert [block.block_type for block in answer.blocks] == ["thinking", "text"]
