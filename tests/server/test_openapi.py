"""The OpenAPI document describes the real answers, and a small client generated from it reads errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from starlette.requests import Request

from tests.server.live import Answer, Client, Watcher, serving
from turnstream.config import EngineSettings, ServerSettings
from turnstream.core.identifiers import is_id, new_id
from turnstream.engine import Engine
from turnstream.errors import Unauthorized
from turnstream.server.auth import Principal
from turnstream.server.requests import limited_route

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
        return template.removeprefix("/api").format(
            chat_id=self.chat, turn_id=self.turn, approval_id=self.turn, sequence=0
        )

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
    """Check that the document names this error for the operation, with its schema."""
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
    monkeypatch.setattr(limited_route, "BODY_SECONDS", 0.1)
    met: set[int] = set()
    for method, template, _ in world.operations():
        path = world.path(template)
        asked: list[tuple[int, str, Any, dict[str, str]]] = [(401, path, None, {"X-Nobody": "x"})]
        body = {"title": "x"} if method == "PATCH" else {} if "regenerate" in path else TEXT
        if "approvals" in path:
            body = {"approved": True}
        if "{" in template:
            asked.append((400, re.sub(r"\{\w+\}", "x", template.removeprefix("/api")), body, {}))
            asked.append(
                (
                    404,
                    re.sub(r"\{\w+\}", new_id(), template.removeprefix("/api").replace("{sequence}", "0")),
                    body,
                    {},
                )
            )
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


async def test_an_id_in_a_body_that_names_nothing_is_a_conflict(world: World) -> None:
    """404 would mean that the chat does not exist."""
    other = (await world.client.call("POST", "/chats")).json["id"]
    template = "/api/chats/{chat_id}"
    for turn in (new_id(), world.chat, world.turn):
        answer = await world.client.call("PATCH", f"/chats/{other}", {"active_turn_id": turn, "title": "x"})
        assert (answer.status, answer.json["error"]["code"]) == (409, "invalid_active_turn")
        check_error(world, "PATCH", template, answer)
    assert (await world.client.call("GET", f"/chats/{other}")).json["title"] is None
    shown = await world.client.call("PATCH", f"/chats/{world.chat}", {"active_turn_id": world.turn})
    assert shown.status == 200
    gone = await world.client.call("PATCH", f"/chats/{new_id()}", {"active_turn_id": world.turn})
    assert gone.status == 404


async def test_a_result_of_no_call_is_a_conflict_unless_there_is_something_else_to_send(world: World) -> None:
    template = "/api/chats/{chat_id}/turns"
    path = f"/chats/{(await world.client.call('POST', '/chats')).json['id']}/turns"
    result = {"block_type": "tool_result", "content": {"tool_use_id": "", "content": {"so": "it is"}}}
    reference = {"block_type": "reference"}
    for blocks, query in (([result], ""), ([result, reference], ""), ([result, result], "?stream=true")):
        answer = await world.client.call("POST", path + query, {**TEXT, "turn_blocks": blocks})
        assert (answer.status, answer.json["error"]["code"]) == (409, "unknown_tool_use")
        check_error(world, "POST", template, answer)
    nothing = await world.client.call("POST", path, {**TEXT, "turn_blocks": [reference]})
    assert nothing.status == 400
    assert (await world.client.call("GET", path)).json["turns"] == []
    spoken = {"block_type": "tool_result", "content": {"tool_use_id": "x", "content": "so it is"}}
    said = await world.client.call("POST", path, {**TEXT, "turn_blocks": [result, spoken]})
    assert said.status == 201
    await Watcher(world.client, said.json["assistant_turn"]["id"]).watch_to_the_end()
    after = {**TEXT, "turn_blocks": [result], "prev_turn_id": said.json["assistant_turn"]["id"]}
    assert (await world.client.call("POST", path, after)).status == 201


async def test_two_tools_of_one_name_are_a_conflict(
    world: World,
) -> None:
    template = "/api/chats/{chat_id}/turns"
    path = f"/chats/{world.chat}/turns"
    find: dict[str, Any] = {"name": "find", "input_schema": {"type": "object", "properties": {"a": {}}}}
    for tools, status in (
        ([find, {**find, "name": "Find"}], 201),
        ([find, find], 409),
        ([find, {**find, "description": "other"}], 409),
        ([find, {**find, "input_schema": {"type": "object"}}], 409),
    ):
        answer = await world.client.call("POST", path, {**TEXT, "tools": tools})
        assert answer.status == status, answer
        if status == 201:
            await Watcher(world.client, answer.json["assistant_turn"]["id"]).watch_to_the_end()
        else:
            assert answer.json["error"]["code"] == "duplicate_tool"
            check_error(world, "POST", template, answer)


async def test_headers_and_queries_are_held_to_their_pattern(world: World) -> None:
    stream = f"/turns/{world.turn}/stream"
    watcher = Watcher(world.client, world.turn)
    await watcher.watch_to_the_end()
    good = watcher.ids[0]
    for after, repeated, status in (
        (good, good, 200),
        ("", good, 200),
        ("x", good, 400),
        ("1-", good, 400),
        (good, "x", 400),
        ("x", "0", 400),
        ("x", "", 400),
    ):
        answer = await world.client.call("GET", f"{stream}?after={after}", None, {"Last-Event-ID": repeated})
        assert answer.status == status, (after, repeated)
    operation = world.document["paths"]["/api/chats/{chat_id}/turns"]["post"]
    key = next(item for item in operation["parameters"] if item["name"] == "Idempotency-Key")
    keys = ("k", "a key", "k" * 255, "k" * 256, "", "schl\u00fcssel", "a\tb", "a\x7f")
    for text in keys:
        for path, body in ((f"/chats/{world.chat}/turns", TEXT), (f"/turns/{world.turn}/regenerate", {})):
            answer = await world.client.call("POST", path, body, {"Idempotency-Key": text})
            fits = re.fullmatch(key["schema"]["pattern"], text) is not None
            assert (answer.status != 400) == fits, (text, answer)
            if answer.status == 201:
                await Watcher(world.client, answer.json["assistant_turn"]["id"]).watch_to_the_end()


async def test_every_route_of_an_engine_that_was_not_started_answers_a_503_of_the_document(
    tmp_path: Path,
) -> None:
    application = FastAPI()
    application.include_router(Engine(f"sqlite:///{tmp_path}/turns.sqlite").router(prefix="/api"))
    async with serving(application) as port:
        document = (await Client(port, prefix="").call("GET", "/openapi.json")).json
        world = World(Client(port), document, new_id(), new_id())
        for method, template, _ in world.operations():
            if template == "/api/models":
                continue
            body = {"title": "x"} if method == "PATCH" else TEXT if template.endswith("/turns") else {}
            if "approvals" in template:
                body = {"approved": True}
            answer = await world.client.call(
                method, world.path(template), body if method in ("POST", "PATCH") else None
            )
            assert (answer.status, answer.json["error"]["code"]) == (503, "engine_not_started"), template
            assert answer.headers["retry-after"]
            check_error(world, method, template, answer)


async def test_health_is_described_in_both_states(world: World, tmp_path: Path) -> None:
    responses = world.document["paths"]["/healthz"]["get"]["responses"]
    root = Client(world.client.port, prefix="")
    for status in (200, 503):
        answer = await root.call("GET", "/healthz")
        assert answer.status == status
        schema = resolve(world.document, responses[str(status)]["content"]["application/json"]["schema"])
        assert set(answer.json) == set(schema["required"])
        assert answer.json["status"] == schema["properties"]["status"]["const"]
        (tmp_path / "turns.sqlite").unlink(missing_ok=True)


async def test_readiness_is_described_in_both_states(world: World) -> None:
    responses = world.document["paths"]["/readyz"]["get"]["responses"]
    root = Client(world.client.port, prefix="")
    answer = await root.call("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (200, "ready")
    schema = resolve(world.document, responses["503"]["content"]["application/json"]["schema"])
    assert set(schema["required"]) == {"status", "version", "reasons"}


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


@pytest.mark.parametrize("way", ["own server", "host"])
def test_generators_of_clients_can_name_every_object_among_alternatives(tmp_path: Path, way: str) -> None:
    """These generators fail at an object with alternatives within alternatives, and at everything that refers
    to it."""
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    application = engine.application() if way == "own server" else FastAPI()
    if way == "host":
        application.include_router(engine.router(prefix="/api"))
    document = application.openapi()
    schemas = document["components"]["schemas"]
    shapes = schemas["UserBlock"]["oneOf"]
    assert [shape["title"] for shape in shapes] == [
        "TextBlock", "ImageBlock", "DocumentBlock", "ToolResultBlock", "ReferenceBlock", "PartialReferenceBlock",
        "PlainTextBlock"
    ]  # fmt: skip
    for shape in shapes[:-1]:
        content = shape["properties"]["content"]
        choices = content.get("oneOf") or content.get("anyOf") or [content]
        assert all("$ref" in choice or choice == {"type": "null"} for choice in choices), shape["title"]
        for choice in choices:
            described = resolve(document, choice)
            assert not any("default" in field for field in described.get("properties", {}).values())
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) == set(schemas)


async def test_blocks_are_described_one_by_one(world: World) -> None:
    """The document and the server accept the same blocks."""
    shapes = world.document["components"]["schemas"]["UserBlock"]["oneOf"]
    kinds = {shape["properties"]["block_type"]["const"]: shape for shape in shapes[:-1]}
    text, blocks = world.document["components"]["schemas"]["TurnBody"]["properties"]["turn_blocks"]["anyOf"]
    assert (text["type"], blocks["type"]) == ("string", "array")
    for said in ("hello", " ", ""):
        for sent in (said, [{"type": "text", "text": said}]):
            answer = await world.client.call(
                "POST", f"/chats/{world.chat}/turns?stream=true", {**TEXT, "turn_blocks": sent}
            )
            for described in (text, shapes[-1]["properties"]["text"]):
                assert (answer.status == 200) == bool(re.search(described["pattern"], said)), (sent, answer)
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
