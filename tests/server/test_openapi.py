"""The OpenAPI document says what is answered: it is held against real answers, and a small client made from it reads errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from tests.server.live import Answer, Client, Watcher, serving
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.identifiers import is_id, new_id
from turnstream.engine import Engine
from turnstream.errors import Unauthorized
from turnstream.server import routing
from turnstream.server.auth import Principal

pytestmark = pytest.mark.fault(48)

TEXT = {"turn_blocks": [{"block_type": "text", "text_content": "x"}], "model": "sim/echo:pace=0"}
SLOW = {**TEXT, "model": "sim/story:events=2000,pace=0.01"}


def by_header(request: Request) -> Principal:
    if "x-nobody" in request.headers:
        raise Unauthorized("say who you are")
    return Principal("alice")


class World(NamedTuple):
    client: Client
    document: dict[str, Any]
    chat: str
    turn: str

    def path(self, template: str) -> str:
        return template.removeprefix("/api").format(chat_id=self.chat, turn_id=self.turn)

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [
            (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            if path.startswith("/api/")
        ]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    engine = Engine(
        f"sqlite:///{tmp_path}/turns.sqlite",
        authenticate=by_header,
        server=ServerSettings(max_body_bytes=2048),
        settings=EngineSettings(max_active_turns=2),
    )
    async with serving(engine.application()) as port:
        client = Client(port)
        document = (await Client(port, prefix="").call("GET", "/openapi.json")).json
        chat = (await client.call("POST", "/chats")).json["id"]
        turn = (await client.call("POST", f"/chats/{chat}/turns", TEXT)).json["assistant_turn"]["id"]
        await Watcher(client, turn).watch_to_the_end()
        yield World(client, document, chat, turn)


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def check_error(world: World, method: str, template: str, answer: Answer) -> None:
    """The answer is an error that the document names for this operation, in the shape that it names."""
    responses = world.document["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in responses, (method, template, answer)
    schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
    outer = resolve(world.document, schema)
    inner = resolve(world.document, outer["properties"]["error"])
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == set(outer["required"]) == {"error"}
    assert set(answer.json["error"]) == set(inner["required"]) == {"code", "message"}


async def test_no_operation_answers_422(world: World) -> None:
    for method, path, operation in world.operations():
        assert "422" not in operation["responses"], (method, path)
        assert "default" in operation["responses"]
    assert not {"HTTPValidationError", "ValidationError"} & set(world.document["components"]["schemas"])


async def test_errors_of_ids_keys_and_bodies_are_those_of_the_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "BODY_SECONDS", 0.1)
    met: set[int] = set()
    for method, template, _ in world.operations():
        path = world.path(template)
        asked: list[tuple[int, str, Any, dict[str, str]]] = [(401, path, None, {"X-Nobody": "x"})]
        body = {"title": "x"} if method == "PATCH" else {} if "regenerate" in path else TEXT
        if "{" in template:
            asked.append((400, re.sub(r"\{\w+\}", "x", template.removeprefix("/api")), body, {}))
            asked.append((404, re.sub(r"\{\w+\}", new_id(), template.removeprefix("/api")), body, {}))
        if method in ("POST", "PATCH"):
            asked.append((413, path, None, {"Content-Length": "999999"}))
            asked.append((408, path, None, {"Content-Length": "9"}))
            asked.append((400, path, b"\xff", {}))
        for status, where, sent, headers in asked:
            answer = await world.client.call(method, where, sent, headers)
            assert answer.status == status, (method, where, answer)
            check_error(world, method, template, answer)
            met.add(status)
    assert met == {400, 401, 404, 408, 413}


async def test_conflicts_and_a_full_server_are_those_of_the_document(world: World) -> None:
    template = "/api/chats/{chat_id}/turns"
    path = world.path(template)
    running = (await world.client.call("POST", path, SLOW)).json["assistant_turn"]["id"]
    conflict = await world.client.call("POST", path, {**TEXT, "prev_turn_id": running})
    assert conflict.status == 409
    check_error(world, "POST", template, conflict)
    second = (await world.client.call("POST", path, SLOW)).json["assistant_turn"]["id"]
    for template in ("/api/chats/{chat_id}/turns", "/api/turns/{turn_id}/regenerate"):
        full = await world.client.call("POST", world.path(template), TEXT if "chats" in template else {})
        assert full.status == 503
        assert int(full.headers["retry-after"]) > 0
        check_error(world, "POST", template, full)
        assert "Retry-After" in world.document["paths"][template]["post"]["responses"]["503"]["headers"]
    for turn in (running, second):
        await world.client.call("POST", f"/turns/{turn}/interrupt")


async def test_ids_and_cursors_have_their_pattern(world: World) -> None:
    for _, path, operation in world.operations():
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            if parameter["name"] in ("chat_id", "turn_id"):
                assert schema["format"] == "uuid", path
                assert all(
                    bool(re.search(schema["pattern"], text)) == is_id(text)
                    for text in (new_id(), "x", new_id().upper(), "01a1fc3d-f972-4b3d-9880-2b4d5256380e", "")
                )
    watcher = Watcher(world.client, world.turn)
    await watcher.watch_to_the_end()
    stream = world.document["paths"]["/api/turns/{turn_id}/stream"]["get"]["parameters"]
    cursor, empty = next(parameter["schema"]["anyOf"] for parameter in stream if parameter["name"] == "after")
    assert all(re.search(cursor["pattern"], known) for known in watcher.ids)
    assert empty["enum"] == ["", "0"]
    for nothing in empty["enum"]:
        answer = await world.client.call("GET", f"/turns/{world.turn}/stream?after={nothing}")
        assert answer.body.startswith(b"event: turn_start\n")
    schemas = world.document["components"]["schemas"]
    for model, field in (
        ("ChatView", "id"),
        ("TurnView", "id"),
        ("TurnView", "chat_id"),
        ("BlockView", "id"),
    ):
        assert re.search(schemas[model]["properties"][field]["pattern"], new_id())


@pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "HEAD", "PATCH", "DELETE", "POST", "GET"])
async def test_allow_names_every_method(world: World, method: str) -> None:
    for template, methods in world.document["paths"].items():
        named = {name.upper() for name in methods}
        if method in named or not template.startswith("/api/"):
            continue
        async with asyncio.timeout(20):
            reader, writer = await world.client.open(method, world.path(template))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            writer.close()
        assert " 405 " in head[0], (method, template)
        allowed = next(line for line in head if line.startswith("allow: ")).removeprefix("allow: ")
        assert {name.strip().upper() for name in allowed.split(",")} == named, template


async def test_models_and_tools_that_are_known_are_named(world: World) -> None:
    fields = world.document["components"]["schemas"]["TurnBody"]["properties"]
    pattern = fields["model"]["anyOf"][0]["pattern"]
    for model in ("sim/echo:pace=0", "x", "nobody/knows", "sim/", "fast"):
        answer = await world.client.call(
            "POST", f"/chats/{world.chat}/turns?stream=true", {**TEXT, "model": model}
        )
        assert (answer.status == 200) == bool(re.search(pattern, model)), model
        again = {**TEXT, "fallbacks": [model]}
        answer = await world.client.call("POST", f"/chats/{world.chat}/turns?stream=true", again)
        assert (answer.status == 200) == bool(re.search(pattern, model)), model
    assert "enum" not in str(fields["tools"])
    unknown = await world.client.call("POST", f"/chats/{world.chat}/turns", {**TEXT, "tools": ["no tool"]})
    assert unknown.status == 400
    keyless = await world.client.call("POST", f"/chats/{world.chat}/turns", {**TEXT, "model": "anthropic/x"})
    assert keyless.status == 502
    check_error(world, "POST", "/api/chats/{chat_id}/turns", keyless)


async def test_blocks_are_described_one_by_one(world: World) -> None:
    """What the document asks of a block is what the server asks of it."""
    shapes = world.document["components"]["schemas"]["UserBlock"]["oneOf"]
    kinds = {shape["properties"]["block_type"]["const"]: shape for shape in shapes}
    for kind, content, status in (
        ("text", None, 400),
        ("image", {}, 400),
        ("image", {"url": "https://example.org/a.png"}, 201),
        ("document", {"text": "so it says"}, 201),
        ("tool_result", {}, 400),
    ):
        block = {"block_type": kind} | ({} if content is None else {"content": content})
        answer = await world.client.call(
            "POST", f"/chats/{world.chat}/turns", {**TEXT, "turn_blocks": [block, *TEXT["turn_blocks"]]}
        )
        assert answer.status == status, answer
        if status == 400 and content is None:
            assert not set(kinds[kind]["required"]) <= set(block)
        started = answer.json.get("assistant_turn") if status == 201 else None
        if started is not None:
            await Watcher(world.client, started["id"]).watch_to_the_end()
