"""Clients of Ollama over HTTP: lines, fields, errors. `tests/clients` has the official clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Answer, Client, serving
from turnstream.config import ServerSettings
from turnstream.engine import Engine

PART = {"type": "text", "text": "hi"}


@asynccontextmanager
async def running(tmp_path: Path, *protocols: Any) -> AsyncIterator[Client]:
    server = ServerSettings(protocols=protocols) if protocols else ServerSettings()
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", server=server)
    async with serving(engine.application()) as port:
        yield Client(port)


def asked(text: str = "hi", model: str = "sim/echo:pace=0", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def lines_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = answer.body.decode().split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


@pytest.mark.requirement("N7")
async def test_an_answer_is_streamed_in_lines_unless_the_request_says_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        lines = lines_of(await client.call("POST", "/chat", asked("hi there")))
        whole = await client.call("POST", "/chat", asked("hi there", stream=False))
    assert [line["done"] for line in lines] == [False, False, False, True]
    assert "".join(line["message"]["content"] for line in lines) == "hi there"
    assert whole.headers["content-type"] == "application/json"
    assert whole.json["message"] == {"role": "assistant", "content": "hi there"}
    assert (whole.json["done"], whole.json["done_reason"], whole.json["eval_count"]) == (True, "stop", 2)


@pytest.mark.requirement("N7")
async def test_no_character_of_an_answer_ends_a_line(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", "/chat", asked(model="sim/thinking:pace=0"))
        stored = await client.stored(answer.headers["x-request-id"])
    lines = lines_of(answer)
    assert len(answer.body.decode().splitlines()) == len(lines)
    assert "".join(line["message"].get("thinking", "") for line in lines) == stored[0]["text_content"]
    assert "".join(line["message"]["content"] for line in lines) == stored[1]["text_content"]
    assert "\u2028" in stored[1]["text_content"]


@pytest.mark.requirement("N7", "N9")
@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_without_rows_is_the_same(tmp_path: Path, *, streams: bool) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", "/chat", asked("hi there", store=False, stream=streams))
        chats = (await client.call("GET", "/chats")).json["chats"]
    lines = lines_of(answer) if streams else [answer.json]
    assert "".join(line["message"]["content"] for line in lines) == "hi there"
    assert (lines[-1]["done"], chats) == (True, [])


@pytest.mark.requirement("N7")
async def test_a_call_is_one_line(tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    async with running(tmp_path) as client:
        answer = await client.call("POST", "/chat", asked(model="sim/tools:pace=0", tools=[tool]))
    calls = [call for line in lines_of(answer) for call in line["message"].get("tool_calls", ())]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "example 1"}, {"city": "example 2"}]


@pytest.mark.requirement("N7")
async def test_an_error_before_output_has_a_status_and_after_output_a_line(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        before = await client.call("POST", "/chat", asked(model="sim/echo:fault=error-before,status=401"))
        after = await client.call("POST", "/chat", asked(model="sim/story:pace=0,fault=error,after=6"))
    assert before.status == 401
    assert isinstance(before.json["error"], str)
    last = lines_of(after)[-1]
    assert last["error"] == "the model provider is overloaded; try again later"


@pytest.mark.requirement("N7")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", asked(model="nope/model")),
        ("/chat", {"model": "sim/echo", "messages": [{"role": "system", "content": "hi"}]}),
        ("/generate", {"model": "sim/echo", "prompt": "hi", "suffix": "end"}),
        ("/generate", {"model": "sim/echo", "prompt": "hi", "raw": True}),
        ("/generate", {"model": "sim/echo", "prompt": "hi", "template": "{{ .Prompt }}"}),
        ("/generate", {"model": "sim/echo", "prompt": 1}),
    ],
)
async def test_a_refusal_is_a_sentence_and_stores_nothing(tmp_path: Path, path: str, body: Any) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", path, body)
        chats = (await client.call("GET", "/chats")).json["chats"]
    assert answer.status == 400
    assert isinstance(answer.json["error"], str)
    assert chats == []


@pytest.mark.requirement("N7")
async def test_models_have_tags_and_requests_may_name_them(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        tags = (await client.call("GET", "/tags")).json["models"]
        answer = await client.call("POST", "/chat", asked(model="sim/echo:latest", stream=False))
        shown = await client.call("POST", "/show", {"name": "sim/echo:latest"})
        version = (await client.call("GET", "/version")).json["version"]
    assert "sim/echo:latest" in {model["name"] for model in tags}
    assert (answer.status, answer.json["model"]) == (200, "sim/echo:latest")
    assert "completion" in shown.json["capabilities"]
    assert version


@pytest.mark.requirement("N7")
async def test_the_root_answers_a_check(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        reader, writer = await Client(client.port, prefix="").open("HEAD", "/")
        status = (await reader.readline()).split()[1]
        writer.close()
    assert status == b"200"


@pytest.mark.requirement("N3", "N7")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (asked(), "application/x-ndjson"),
        ({"model": "sim/echo", "messages": []}, "application/x-ndjson"),
        (
            {"model": "sim/echo", "messages": [{"role": "user", "images": ["iVBORw0KGgo="]}]},
            "application/x-ndjson",
        ),
        ({"id": "c", "messages": [{"role": "user", "parts": [PART]}]}, "text/event-stream"),
        ({"messages": [{"role": "user", "parts": [PART], "content": "hi"}]}, "text/event-stream"),
    ],
)
async def test_the_body_says_which_protocol_the_shared_address_speaks(
    tmp_path: Path, body: Any, content_type: str
) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", "/chat", {"model": "sim/echo:pace=0", **body})
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)


@pytest.mark.requirement("N3", "N7")
@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        {"messages": []},
        {"id": "c", "model": "sim/echo", "messages": []},
        {"model": "sim/echo", "messages": [{"role": "user"}]},
        {
            "model": "sim/echo",
            "messages": [{"role": "user", "parts": [PART]}, {"role": "user", "content": "b"}],
        },
        {"model": "sim/echo", "messages": "hi"},
    ],
)
async def test_a_body_of_no_protocol_or_of_two_is_refused(tmp_path: Path, body: Any) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", "/chat", body)
        chats = (await client.call("GET", "/chats")).json["chats"]
    assert answer.status == 400
    assert answer.json["error"]["code"] == "invalid_request"
    assert chats == []


@pytest.mark.requirement("N3", "N7")
@pytest.mark.parametrize(("protocol", "is_served"), [("ollama", True), ("ai_sdk", False)])
async def test_the_address_belongs_to_the_only_protocol_that_is_served(
    tmp_path: Path, protocol: str, *, is_served: bool
) -> None:
    async with running(tmp_path, "native", protocol) as client:
        plain = await client.call("POST", "/chat", asked())
        page = await client.call(
            "POST", "/chat", {"id": "c", "messages": [{"role": "user", "parts": [PART]}]}
        )
    assert (plain.status == 200, page.status == 200) == (is_served, not is_served)
