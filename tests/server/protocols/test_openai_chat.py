"""Clients of OpenAI Chat Completions over HTTP: streamed, plain, tools on both sides, faults, closing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.dialects.chat_fold import ChatFold
from tests.server.live import Answer, Client, serving
from turnstream.config import ModelSettings, ServerSettings
from turnstream.engine import Engine
from turnstream.server.auth import key_required
from turnstream.tools.base import tool

CHAT = "/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


@asynccontextmanager
async def running(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Client, Client]]:
    """A client of `/v1`, and one of the native API."""
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", tools=[clock], **options)
    async with serving(engine.application()) as port:
        yield Client(port, prefix="/v1"), Client(port)


def asked(*messages: dict[str, Any], model: str = "sim/echo", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), **fields}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Streamed(ChatFold):
    """Return the chunks of a whole answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        assert answer.status == 200, answer
        assert answer.headers["content-type"].startswith("text/event-stream")
        self.receive(answer.body)


async def stream(client: Client, body: dict[str, Any]) -> Streamed:
    return Streamed(await client.call("POST", CHAT, {**body, "stream": True}))


async def turns(native: Client) -> list[dict[str, Any]]:
    """Return all turns of the only chat."""
    (chat,) = (await native.call("GET", "/chats")).json["chats"]
    return (await native.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]


async def stored_text(native: Client, turn: dict[str, Any]) -> str:
    rows = await native.stored(turn["id"])
    return "".join(row["text_content"] for row in rows if row["block_type"] == "text")


@pytest.mark.requirement("N5")
async def test_a_stream_and_a_plain_answer_are_the_stored_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        model = "sim/story:events=20,pace=0"
        body = asked(user("one"), model=model, stream_options={"include_usage": True})
        first = await stream(client, body)
        assert (first.done, first.reasons) == (True, ["stop"])
        assert first.usage is not None
        (turn,) = [turn for turn in await turns(native) if turn["role"] == "assistant"]
        ((answer_id, created, shown_model),) = first.heads
        assert (answer_id, shown_model) == (f"chatcmpl-{turn['id']}", model)
        assert turn["created_at"].startswith(datetime.fromtimestamp(created, UTC).isoformat()[:19])
        assert first.text == await stored_text(native, turn)
        plain = await client.call("POST", CHAT, asked(user("one"), first.message(), user("two"), model=model))
        assert plain.status == 200
        answers = [turn for turn in await turns(native) if turn["role"] == "assistant"]
        assert len(answers) == 2
        (choice,) = plain.json["choices"]
        assert choice["message"]["content"] == await stored_text(native, answers[1])
        assert choice["finish_reason"] == "stop"
        assert plain.json["usage"]["completion_tokens"] > 0
        assert plain.headers["x-request-id"] == answers[1]["id"]


@pytest.mark.requirement("N5")
async def test_tools_of_the_client_and_of_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        fields: dict[str, Any] = {"model": "sim/agent", "tools": [WEATHER], "server_tools": ["clock"]}
        first = await stream(client, asked(user("one"), **fields))
        assert first.reasons == ["tool_calls"]
        assert [call["name"] for call in first.calls] == ["weather"]
        sunny = {"role": "tool", "tool_call_id": first.calls[0]["id"], "content": "sunny"}
        second = await stream(client, asked(user("one"), first.message(), sunny, **fields))
        assert "sunny" in second.text
        assert [turn["role"] for turn in await turns(native)] == ["user", "assistant", "user", "assistant"]


@pytest.mark.requirement("N9")
async def test_a_request_without_rows_has_the_same_answers_and_stores_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        body = asked(user("one"), model="sim/story:events=20,pace=0", store=False)
        first = await stream(client, body)
        assert (first.done, first.reasons) == (True, ["stop"])
        plain = await client.call("POST", CHAT, body)
        assert plain.json["choices"][0]["message"]["content"] == first.text
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N9")
async def test_tools_over_two_rounds_need_no_rows(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        fields: dict[str, Any] = {"model": "sim/agent", "tools": [WEATHER], "server_tools": ["clock"]}
        first = await stream(client, asked(user("one"), store=False, **fields))
        assert [call["name"] for call in first.calls] == ["weather"]
        sunny = {"role": "tool", "tool_call_id": first.calls[0]["id"], "content": "sunny"}
        second = await stream(client, asked(user("one"), first.message(), sunny, store=False, **fields))
        assert "sunny" in second.text
        assert second.reasons == ["stop"]
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_fault_before_output_is_the_providers_status(tmp_path: Path, *, streamed: bool) -> None:
    async with running(tmp_path) as (client, _):
        body = asked(user("one"), model="sim/story:events=20,pace=0,fault=cut,after=0", stream=streamed)
        answer = await client.call("POST", CHAT, body)
        assert answer.status == 500
        assert answer.json["error"]["type"] == "server_error"


@pytest.mark.requirement("N5", "P5")
async def test_a_fault_after_output_is_an_error_chunk_and_no_end(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        cut = await stream(client, asked(user("one"), model="sim/story:events=20,pace=0,fault=cut,after=8"))
        assert (cut.done, cut.reasons) == (False, [])
        assert cut.text
        assert cut.error is not None


@pytest.mark.requirement("N9")
async def test_names_and_fallbacks_of_the_settings_and_of_the_request(tmp_path: Path) -> None:
    broken = "sim/story:events=20,pace=0,fault=cut,after=0"
    models = {"careful": ModelSettings(model=broken, fallbacks=("sim/echo",))}
    async with running(tmp_path, models=models) as (client, _):
        for fields in ({"model": "careful"}, {"model": broken, "fallbacks": ["sim/echo"]}):
            answer = await stream(client, asked(user("hello"), **fields))
            assert "hello" in answer.text
            assert answer.reasons == ["stop"]
        listed = (await client.call("GET", "/models")).json
        assert "careful" in [model["id"] for model in listed["data"]]


@pytest.mark.requirement("N5")
async def test_the_list_of_models_has_the_form_of_its_client(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        listed = (await client.call("GET", "/models")).json
        assert listed["object"] == "list"
        assert {"id": "sim/echo", "object": "model", "created": 0, "owned_by": "sim"} in listed["data"]
        one = (await client.call("GET", "/models/sim/echo")).json
        assert one in listed["data"]
        version = {"anthropic-version": "2023-06-01"}
        theirs = (await client.call("GET", "/models", headers=version)).json
        assert [model["id"] for model in theirs["data"]] == [model["id"] for model in listed["data"]]
        assert theirs["data"][0]["type"] == "model"
        missing = await client.call("GET", "/models/sim/none")
        assert (missing.status, missing.json["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("path", ["/embeddings", "/audio/speech", "/images/generations", "/nothing"])
async def test_other_addresses_are_404_with_a_sentence(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as (client, _):
        answer = await client.call("POST", path, {})
        assert answer.status == 404
        assert "here" in answer.json["error"]["message"]


@pytest.mark.requirement("N5")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 2}, "n must be 1"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["audio"]}, "audio"),
        ({"functions": []}, "use tools"),
        ({"messages": []}, "last message"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"model": "nowhere"}, "provider/model"),
        ({"server_tools": ["none"]}, "no tool called none"),
        ({"prompt": "x"}, "prompt cannot be given"),
        ({"fallbacks": 7}, "fallbacks"),
    ],
)
async def test_a_faulty_body_is_refused_in_openais_form_and_nothing_is_stored(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", CHAT, {**asked(user("one")), **fields})
        assert answer.status == 400
        assert words in answer.json["error"]["message"]
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N5")
async def test_the_servers_key_comes_in_either_header(tmp_path: Path) -> None:
    async with running(tmp_path, authenticate=key_required("secret")) as (client, _):
        body = asked(user("hello"))
        for headers in ({}, {"Authorization": "Bearer other"}, {"x-api-key": "other"}):
            refused = await client.call("POST", CHAT, body, headers)
            assert (refused.status, refused.json["error"]["code"]) == (401, "invalid_api_key")
        for headers in ({"Authorization": "Bearer secret"}, {"x-api-key": "secret"}):
            assert (await client.call("POST", CHAT, body, headers)).status == 200


@pytest.mark.requirement("N5")
async def test_a_host_application_mounts_the_routes_under_its_prefix(tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", server=ServerSettings()) as engine:
        host = FastAPI()
        host.include_router(engine.router("/llm", protocols=("openai_chat",)))
        async with serving(host) as port:
            client = Client(port, prefix="/llm/v1")
            answer = await stream(client, asked(user("hello")))
            assert "hello" in answer.text
            assert (await client.call("GET", "/models")).status == 200
