"""Clients of Anthropic Messages over HTTP: frames, fields, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Answer, Client, serving
from turnstream.config import RetrySettings
from turnstream.engine import Engine

WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@asynccontextmanager
async def running(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Client, Client]]:
    """A client of `/v1`, and one of the native API."""
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", **options)
    async with serving(engine.application()) as port:
        yield Client(port, prefix="/v1"), Client(port)


def asked(text: Any = "hi", model: str = "sim/echo:pace=0", **fields: Any) -> dict[str, Any]:
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 64, "messages": messages, **fields}


def events_of(answer: Answer) -> list[dict[str, Any]]:
    """Return the events of a stream. Each has the name of its type."""
    assert answer.status == 200, answer
    frames = answer.body.decode().split("\n\n")
    assert frames.pop() == ""
    events: list[dict[str, Any]] = []
    for frame in frames:
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


@pytest.mark.requirement("N6")
async def test_a_stream_has_the_events_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", "/messages", asked("hi there", stream=True))
        turn_id = answer.headers["request-id"]
        stored = await native.stored(turn_id)
    start, *events = events_of(answer)
    assert start["message"]["id"] == f"msg_{turn_id}"
    assert [event["type"] for event in events] == [
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(event["delta"]["text"] for event in events[1:3]) == stored[0]["text_content"]
    assert events[4]["usage"] == {"input_tokens": 2, "output_tokens": 2}


@pytest.mark.requirement("N6")
async def test_no_character_of_an_answer_ends_a_line(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", "/messages", asked(model="sim/thinking:pace=0", stream=True))
        stored = await native.stored(answer.headers["request-id"])
    text = answer.body.decode()
    assert text.splitlines() == text.split("\n")[:-1]
    deltas = [event["delta"] for event in events_of(answer) if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == stored[1]["text_content"]
    assert "\u2028" in stored[1]["text_content"]


@pytest.mark.requirement("N6")
async def test_the_arguments_of_a_call_are_one_json_value(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = asked(model="sim/tools:pace=0", tools=[WEATHER], stream=True)
        events = events_of(await client.call("POST", "/messages", body))
    parts: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            parts[event["index"]] = parts.get(event["index"], "") + event["delta"]["partial_json"]
    assert [json.loads(part) for part in parts.values()] == [{"city": "example 1"}, {"city": "example 2"}]


@pytest.mark.requirement("N6")
async def test_a_call_without_arguments_has_an_empty_object(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        tool = {"name": "clock", "input_schema": {"type": "object"}}
        body = asked(model="sim/tools:pace=0", tools=[tool], stream=True)
        events = events_of(await client.call("POST", "/messages", body))
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["partial_json"] for delta in deltas if "partial_json" in delta] == ["{}", "{}"]


@pytest.mark.requirement("N6")
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (asked(model="nope/model"), "invalid_request_error"),
        (asked(" "), "invalid_request_error"),
        (
            asked([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
            "invalid_request_error",
        ),
        (asked(server_tools=["no such tool"]), "invalid_request_error"),
        ({"model": "sim/echo"}, "invalid_request_error"),
        ([], "invalid_request_error"),
    ],
)
async def test_a_refusal_has_the_form_of_anthropic_and_stores_nothing(
    tmp_path: Path, body: Any, kind: str
) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", "/messages", body)
        chats = (await native.call("GET", "/chats")).json["chats"]
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == kind
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert chats == []


@pytest.mark.requirement("N6")
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (403, "permission_error")],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_fault_of_the_provider_has_its_own_status(
    tmp_path: Path, status: int, kind: str, *, streams: bool
) -> None:
    async with running(tmp_path) as (client, native):
        model = f"sim/echo:fault=error-before,status={status}"
        answer = await client.call("POST", "/messages", asked(model=model, stream=streams))
        turn = (await native.call("GET", f"/turns/{answer.headers['request-id']}")).json
    assert (answer.status, answer.json["error"]["type"]) == (status, kind)
    assert turn["status"] == "error"


@pytest.mark.requirement("N6")
async def test_a_model_that_failed_too_often_is_overloaded_and_says_how_long(tmp_path: Path) -> None:
    retry = RetrySettings(attempts=1, circuit_failures=1)
    async with running(tmp_path, retry=retry) as (client, _):
        body = asked(model="sim/echo:fault=error-before,status=500")
        failed = await client.call("POST", "/messages", body)
        refused = await client.call("POST", "/messages", body)
    assert (failed.status, failed.json["error"]["type"]) == (500, "api_error")
    assert (refused.status, refused.json["error"]["type"]) == (529, "overloaded_error")
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.requirement("N6")
async def test_a_fault_after_output_is_the_last_event(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        body = asked(model="sim/story:pace=0,fault=error,after=6", stream=True)
        answer = await client.call("POST", "/messages", body)
    last = events_of(answer)[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "overloaded_error")
    assert last["request_id"] == answer.headers["request-id"]


@pytest.mark.requirement("N6")
async def test_a_signature_comes_back_with_its_origin_unless_it_is_forged(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        first = await client.call("POST", "/messages", asked(model="sim/thinking:pace=0"))
        signed, text = first.json["content"]
        forged = {**signed, "signature": signed["signature"].replace("turnstream1.", "turnstream1.A")}
        bare = {**signed, "signature": "c2lnbmVk"}
        hidden = {"type": "redacted_thinking", "data": "aGlkZGVu"}
        history = [
            {"role": "user", "content": "of another chat"},
            {"role": "assistant", "content": [signed, forged, bare, hidden, text]},
            {"role": "user", "content": "two"},
        ]
        await client.call("POST", "/messages", asked(history))
        source, *_ = await native.stored(first.headers["request-id"])
        chats = (await native.call("GET", "/chats")).json["chats"]
        turns = (await native.call("GET", f"/chats/{chats[0]['id']}/turns")).json["turns"]
        stored = await native.stored(turns[1]["id"])
    assert source["content"]["origin"]["provider"] == "sim"
    assert [block["block_type"] for block in stored] == ["thinking"] * 4 + ["text"]
    assert stored[0]["content"] == source["content"]
    assert [block["content"] for block in stored[1:4]] == [None, None, None]


@pytest.mark.requirement("N6")
async def test_thinking_that_is_switched_off_reaches_only_models_that_know_the_switch(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", "/messages", asked(thinking={"type": "disabled"}))
        turn = (await native.call("GET", f"/turns/{answer.headers['request-id']}")).json
    by_wire = turn["params"]["wire_params"]
    assert "thinking" not in turn["params"]
    assert by_wire["anthropic"]["thinking"] == by_wire["gemini"]["thinking"] == {"type": "disabled"}
    assert "openai-chat" not in by_wire


@pytest.mark.requirement("N6", "N9")
@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_without_rows_is_the_same(tmp_path: Path, *, streams: bool) -> None:
    async with running(tmp_path) as (client, native):
        body = asked("hi there", store=False, stream=streams)
        answer = await client.call("POST", "/messages", body)
        chats = (await native.call("GET", "/chats")).json["chats"]
    if streams:
        deltas = [event["delta"] for event in events_of(answer) if event["type"] == "content_block_delta"]
        text = "".join(delta["text"] for delta in deltas)
    else:
        text = answer.json["content"][0]["text"]
    assert (text, chats) == ("hi there", [])


@pytest.mark.requirement("N6")
async def test_tokens_are_estimated_for_the_whole_request(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        short = await client.call("POST", "/messages/count_tokens", asked("hi"))
        long = await client.call(
            "POST", "/messages/count_tokens", asked("hi", system="Be kind. " * 40, tools=[WEATHER])
        )
        refused = await client.call("POST", "/messages/count_tokens", {"model": 1})
    assert 0 < short.json["input_tokens"] < 10
    assert long.json["input_tokens"] > 90
    assert short.headers["turnstream-estimate"] == "input_tokens"
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
