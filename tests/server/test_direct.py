"""The fast path to a turn's stream gives the same answer as the framework's path. Only plain requests take
it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.server.live import Answer, Client, serving
from turnstream.config import ServerSettings
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.server.auth import key_required
from turnstream.server.fast_path import DirectRoutes
from turnstream.turns.commands import Commands

PLAIN: dict[str, Any] = {
    "model": "sim/echo:pace=0",
    "turn_blocks": [{"block_type": "text", "text_content": "hello"}],
}

REQUESTS: list[tuple[Any, dict[str, str]]] = [
    (b"", {}),
    (b"{", {}),
    (b"[]", {}),
    (b"\xff", {}),
    (PLAIN, {"Content-Type": "text/plain"}),
    (PLAIN, {"Content-Type": "Application/JSON; charset=utf-8"}),
    (PLAIN, {"Idempotency-Key": "k" * 300}),
    (PLAIN, {"Origin": "https://elsewhere.example", "Host": "elsewhere.example"}),
    (PLAIN | {"turn_blocks": []}, {}),
    (PLAIN | {"turn_blocks": "hello"}, {}),
    (PLAIN | {"turn_blocks": [{"type": "text", "text": ""}]}, {}),
    (PLAIN | {"turn_blocks": [{"block_type": "text", "text_content": " "}]}, {}),
    (PLAIN | {"surprise": 1}, {}),
    (PLAIN | {"params": {"at": float("nan")}}, {}),
    (PLAIN | {"metadata": {"long": "x" * 4_000}}, {}),
    (PLAIN | {"metadata": {"long": "x" * 40_000}}, {}),
    (PLAIN | {"model": "nobody/knows"}, {}),
    (PLAIN | {"prev_turn_id": "no id"}, {}),
    (PLAIN | {"prev_turn_id": "01890a5d-ac96-774b-bcce-b302099a8057"}, {}),
    (json.dumps(PLAIN).replace("hello", "\\ud800").encode(), {}),
    (b"[" * 4_000, {}),
]
"""Bodies and headers, of which few are valid."""


class Passing:
    """Middleware that changes only the path that requests take."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.passed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.passed += scope["type"] == "http"
        await self.app(scope, receive, send)


def passed(application: FastAPI) -> Passing:
    """Count the requests that go through the framework."""
    stack = application.middleware_stack = Passing(application.build_middleware_stack())
    return stack


@pytest.fixture
async def ways(tmp_path: Path) -> AsyncIterator[tuple[Client, Client, Passing]]:
    """A server whose requests may take the fast path, a server without one, and the requests that go through
    the framework in the first."""
    async with AsyncExitStack() as servers:
        clients: list[Client] = []
        counts: list[Passing] = []
        for name in ("direct", "framework"):
            engine = Engine(
                f"sqlite:///{tmp_path}/{name}.sqlite", server=ServerSettings(max_body_bytes=5_000)
            )
            application = engine.application()
            if name == "framework":
                application.add_middleware(Passing)
            counts.append(passed(application))
            clients.append(Client(await servers.enter_async_context(serving(application))))
        yield clients[0], clients[1], counts[0]


async def ask(client: Client, chat: str, body: Any, query: str = "?stream=true", **headers: str) -> Answer:
    return await client.call("POST", f"/chats/{chat}/turns{query}", body, headers)


async def new_chat(client: Client) -> str:
    return (await client.call("POST", "/chats")).json["id"]


@pytest.mark.requirement("A1", "A2")
async def test_a_plain_request_is_answered_past_the_framework(ways) -> None:
    direct, framework, seen = ways
    chat = await new_chat(direct)
    before = seen.passed
    answers = [await ask(direct, chat, PLAIN), await ask(framework, await new_chat(framework), PLAIN)]
    assert seen.passed == before
    for answer in answers:
        assert answer.status == 200
        names = [line for line in answer.body.split(b"\n") if line.startswith(b"event: ")]
        assert (names[0], names[-1]) == (b"event: turn_start", b"event: turn_complete")
    varying = {"date"}
    assert {name: value for name, value in answers[0].headers.items() if name not in varying} == {
        name: value for name, value in answers[1].headers.items() if name not in varying
    }


@pytest.mark.requirement("A1")
async def test_a_request_without_a_stream_is_answered_past_the_framework(ways) -> None:
    direct, framework, seen = ways
    chats = [await new_chat(direct), await new_chat(framework)]
    before = seen.passed
    answers = [await ask(client, chat, PLAIN, "") for client, chat in zip(ways[:2], chats, strict=True)]
    assert seen.passed == before
    for answer, chat in zip(answers, chats, strict=True):
        assert answer.status == 201
        started = answer.json
        assert started["stream_url"] == f"/api/turns/{started['assistant_turn']['id']}/stream"
        assert started["user_turn"]["chat_id"] == chat
    assert answers[0].json.keys() == answers[1].json.keys()
    assert answers[0].headers.keys() == answers[1].headers.keys()


@pytest.mark.requirement("A1", "K4")
@pytest.mark.parametrize("query", ["?stream=true", ""])
async def test_both_ways_say_the_same(ways, query: str) -> None:
    chats = [await new_chat(client) for client in ways[:2]]
    for body, headers in REQUESTS:
        answers = [
            await ask(client, chat, body, query, **headers)
            for client, chat in zip(ways[:2], chats, strict=True)
        ]
        assert answers[0].status == answers[1].status, (body, headers)
        if answers[0].status >= 400:
            assert answers[0].body == answers[1].body, (body, headers)
            assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


@pytest.mark.requirement("A1", "A6")
async def test_chats_that_are_none(ways) -> None:
    for chat in ("x", new_id(), "a%2Fb"):
        answers = [await ask(client, chat, PLAIN) for client in ways[:2]]
        assert (answers[0].status, answers[0].body) == (answers[1].status, answers[1].body)
        assert answers[0].status in (400, 404)


async def test_what_fails_unexpectedly_is_answered_alike(ways, monkeypatch) -> None:
    async def fail(*_given: object) -> None:
        raise ArithmeticError("not ours")

    monkeypatch.setattr(Commands, "send", fail)
    answers = [await ask(client, await new_chat(client), PLAIN) for client in ways[:2]]
    assert (answers[0].status, answers[0].body) == (answers[1].status, answers[1].body)
    assert answers[0].status == 500


@pytest.mark.parametrize("query", [b"stream=true", b""])
async def test_a_client_that_leaves_within_its_body_is_no_fault_of_the_server(
    tmp_path: Path, query: bytes
) -> None:
    """The exception does not reach the web server, which would log it as a failure."""
    said: list[Message] = []
    received = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(received)

    async def send(message: Message) -> None:
        said.append(message)

    application = Engine(f"sqlite:///{tmp_path}/turns.sqlite").application()
    async with serving(application) as port:
        path = f"/api/chats/{await new_chat(Client(port))}/turns"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
        }
        await application(scope, receive, send)
    assert said[0]["status"] == 400


@pytest.mark.requirement("A6")
async def test_a_key_is_asked_for(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=key_required("the key"))
    application = engine.application()
    async with serving(application) as port:
        client = Client(port, {"Authorization": "Bearer the key"})
        chat = await new_chat(client)
        assert (await ask(client, chat, PLAIN)).status == 200
        assert (await ask(Client(port), chat, PLAIN)).status == 401


@pytest.mark.parametrize(
    ("changed", "chat"),
    [
        ({}, "c"),
        ({"method": "GET"}, None),
        ({"query_string": b""}, "c"),
        ({"query_string": b"stream=false"}, None),
        ({"query_string": b"stream=true&x=1"}, None),
        ({"path": "/api/chats/c/turns/"}, None),
        ({"path": "/api/chats/c/d/turns"}, None),
        ({"path": "/other/chats/c/turns"}, None),
        ({"root_path": "/proxy"}, None),
        ({"type": "websocket"}, None),
    ],
)
def test_which_requests_are_plain(changed: dict[str, Any], chat: str | None) -> None:
    """`chat`: None for a request that goes through the framework."""
    scope = {
        "type": "http",
        "method": "POST",
        "query_string": b"stream=true",
        "path": "/api/chats/c/turns",
        "root_path": "",
        **changed,
    }
    handler = DirectRoutes(None, APIRouter(), "/api").handler_of(scope)  # type: ignore[arg-type]
    assert (handler is None) == (chat is None)
    if chat is not None:
        assert isinstance(handler, partial)
        assert handler.args == (chat,)


BODIES: list[tuple[Any, dict[str, str]]] = [
    (b"", {}),
    (b"{", {}),
    (b"[]", {}),
    (b"\xff", {}),
    (b'{"text": "\\ud800"}', {}),
    ({"model": "sim/echo:pace=0", "messages": []}, {}),
    ({"model": "nobody/knows", "messages": [{"role": "user", "content": "hello"}]}, {}),
    ({"model": "sim/echo:pace=0", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}, {}),
    ({"long": "x" * 6_000}, {}),
    ({}, {"Origin": "https://elsewhere.example", "Host": "elsewhere.example"}),
]


@pytest.mark.requirement("A1", "K4")
async def test_all_protocols_answer_alike_past_the_framework(ways, tmp_path: Path) -> None:
    direct, framework, seen = ways
    async with Engine(f"sqlite:///{tmp_path}/paths.sqlite") as engine:
        application = engine.application()
        assert application.direct is not None  # type: ignore[attr-defined]
        paths = application.direct.paths  # type: ignore[attr-defined]
    assert {"/v1/chat/completions", "/v1/messages", "/api/ai-sdk/chat", "/api/ag-ui"} <= paths
    for client in (direct, framework):
        client.prefix = ""
    for path in sorted(paths):
        for body, headers in BODIES:
            before = seen.passed
            answers = [await client.call("POST", path, body, headers) for client in (direct, framework)]
            assert seen.passed == before, path
            assert answers[0].status == answers[1].status, (path, body)
            if answers[0].status >= 400:
                bodies = [re.sub(rb'"request_id":"[^"]*"', b"", answer.body) for answer in answers]
                assert bodies[0] == bodies[1], (path, body)
                assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


@pytest.mark.requirement("A1")
async def test_another_method_of_such_an_address_goes_through_the_framework(ways) -> None:
    direct, _, seen = ways
    direct.prefix = ""
    before = seen.passed
    answer = await direct.call("GET", "/api/ag-ui")
    assert (answer.status, seen.passed) == (405, before + 1)
