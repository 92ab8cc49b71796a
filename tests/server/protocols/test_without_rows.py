"""A server without rows, over HTTP: all protocols answer, and the database is neither read nor written."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, Watcher, read_chunks, read_head, serving
from turnstream.config import EngineSettings
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine

MESSAGES = [{"role": "user", "content": "hello there"}]
ECHO = "sim/echo:pace=0"
PART = {"id": "m-1", "role": "user", "parts": [{"type": "text", "text": "hello there"}]}


OWN = {
    "DeletedChats",
    "FindDueApprovals",
    "Journals",
    "KeepSecret",
    "LastPage",
    "TrimJournal",
    "UnfinishedTurns",
}
"""Reads and writes of the engine's own tasks, and of the server's secret, which is created once."""


class Used:
    """Return the reads and the writes of an engine's database, without those in `OWN`."""

    def __init__(self, engine: Engine) -> None:
        self.reads: list[str] = []
        self.writes: list[str] = []
        store: Any = engine._store
        store.read = partial(self._note, self.reads, store.read)
        store.write = partial(self._note, self.writes, store.write)

    @staticmethod
    def _note(found: list[str], run: Callable[..., Any], value: object, **options: Any) -> Any:
        if type(value).__name__ not in OWN:
            found.append(type(value).__name__)
        return run(value, **options)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[int, Engine]]:
    engine = Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=EngineSettings(store=False))
    async with serving(engine.application()) as port:
        yield port, engine


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"model": ECHO, "messages": MESSAGES}),
    ("/v1/chat/completions", {"model": ECHO, "messages": MESSAGES, "stream": True}),
    ("/v1/messages", {"model": ECHO, "messages": MESSAGES, "max_tokens": 100, "stream": True}),
    ("/api/ai-sdk/chat", {"id": "c-1", "messages": [PART], "trigger": "submit-message", "model": ECHO}),
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_an_answer_uses_no_database(gateway, path: str, body: dict[str, Any]) -> None:
    port, engine = gateway
    client = Client(port, prefix="")
    used = Used(engine)
    for _ in range(3):
        answer = await client.call("POST", path, body)
        assert answer.status == 200
        assert b"hello" in answer.body
    assert used.reads == used.writes == []
    assert engine.active_turns == 0


async def test_rows_are_refused_where_there_are_none(gateway) -> None:
    port, _ = gateway
    client = Client(port, prefix="")
    body = {"model": ECHO, "messages": MESSAGES, "store": True}
    answer = await client.call("POST", "/v1/chat/completions", body)
    assert answer.status == 400
    assert b"stores no turns" in answer.body
    chat = (await client.call("POST", "/api/chats")).json["id"]
    native = {"model": ECHO, "turn_blocks": "hello", "store": True}
    refused = await client.call("POST", f"/api/chats/{chat}/turns", native)
    assert (refused.status, refused.json["error"]["code"]) == (400, "turns_not_stored")


async def test_a_running_answer_is_found_by_the_chat_of_its_client_and_stopped(gateway) -> None:
    port, engine = gateway
    client = Client(port)
    used = Used(engine)
    body = {"id": "c-1", "messages": [PART], "trigger": "submit-message", "model": "sim/story:events=9000"}
    reader, writer = await client.open("POST", "/ai-sdk/chat", body)
    async with asyncio.timeout(SECONDS):
        await read_head(reader)
        await reader.readuntil(b"text-delta")
    writer.transport.abort()
    again, second = await client.open("GET", "/ai-sdk/chat/c-1/stream")
    async with asyncio.timeout(SECONDS):
        assert (await read_head(again))[0] == 200
        await again.readuntil(b"text-delta")
    second.transport.abort()
    stopped = await client.call("POST", "/ai-sdk/chat/c-1/stop")
    (turn_id,) = stopped.json["stopped"]
    assert (await client.call("GET", f"/turns/{turn_id}")).json["status"] == "cancelled"
    assert used.writes == []


async def test_a_native_turn_is_watched_read_and_repeated_while_it_lives(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/a.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port)
        chat = (await client.call("POST", "/chats")).json["id"]
        used = Used(engine)
        body = {"model": ECHO, "turn_blocks": "hello there", "store": False}
        key = {"Idempotency-Key": "one"}
        started = await client.call("POST", f"/chats/{chat}/turns", body, key)
        assert (started.status, started.json["user_turn"]) == (201, None)
        turn_id = started.json["assistant_turn"]["id"]
        again = await client.call("POST", f"/chats/{chat}/turns", body, key)
        assert again.json["assistant_turn"]["id"] == turn_id
        other = await client.call("POST", f"/chats/{chat}/turns", body | {"system": "x"}, key)
        assert (other.status, other.json["error"]["code"]) == (409, "idempotency_mismatch")
        watcher = Watcher(client, turn_id)
        await watcher.watch(events=2)
        await watcher.watch_to_the_end()
        assert watcher.blocks == await client.stored(turn_id)
        assert watcher.terminal_events() == ["turn_complete"]
        turn = (await client.call("GET", f"/turns/{turn_id}")).json
        assert (turn["status"], turn["chat_id"], len(turn["attempts"])) == ("complete", chat, 1)
        assert json.loads((await client.call("GET", f"/chats/{chat}/turns")).body)["turns"] == []
        assert used.writes == []


@pytest.mark.requirement("Q3")
async def test_a_turn_that_was_lost_with_its_server_has_a_code_of_its_own(tmp_path: Path) -> None:
    """In each protocol whose clients know the turn."""
    settings = EngineSettings(store=False)
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=settings).application()) as port:
        client = Client(port, prefix="")
        asked = {"id": "c-1", "messages": [PART], "trigger": "submit-message", "model": ECHO}
        run = (await client.call("POST", "/api/chat", asked)).headers["x-workflow-run-id"]
        run_of_agent = {
            "threadId": "t-1",
            "runId": "r-1",
            "messages": [{"id": "m-1", "role": "user", "content": "hello there"}],
            "state": {},
            "tools": [],
            "context": [],
            "forwardedProps": {"model": ECHO},
        }
        await client.call("POST", "/api/ag-ui", run_of_agent)
        joined = await client.call("POST", "/api/ag-ui", run_of_agent)
        assert b"MESSAGES_SNAPSHOT" in joined.body
        responses = {"model": ECHO, "input": "hello there", "background": True}
        response = (await client.call("POST", "/v1/responses", responses)).json["id"]
        chat = (await client.call("POST", "/api/chats")).json["id"]
        native = {"model": ECHO, "turn_blocks": "hello there"}
        turn = (await client.call("POST", f"/api/chats/{chat}/turns", native)).json["assistant_turn"]["id"]
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=settings).application()) as port:
        client = Client(port, prefix="")
        named = {"x-message-id": run}
        for method, path in (
            ("GET", f"/api/turns/{turn}/stream"),
            ("GET", f"/api/turns/{turn}"),
            ("POST", f"/api/turns/{turn}/interrupt"),
            ("GET", f"/v1/responses/{response}?stream=true"),
            ("GET", f"/v1/responses/{response}"),
            ("POST", f"/v1/responses/{response}/cancel"),
            ("GET", f"/api/chat/{run}/stream?startIndex=1"),
            ("GET", "/api/chat/c-1/stream"),
        ):
            answer = await client.call(method, path, headers=named)
            assert (answer.status, answer.json["error"]["code"]) == (404, "turn_lost"), (path, answer)
        again = await client.call("POST", "/api/ag-ui", run_of_agent)
        assert again.body.count(b"RUN_STARTED") == again.body.count(b"RUN_FINISHED") == 1, "it runs again"
        assert b"MESSAGES_SNAPSHOT" not in again.body
        unnamed = await client.call("GET", "/api/chat/c-1/stream")
        assert unnamed.status == 204, "no trace of the turn is left"
        unknown = await client.call("GET", f"/api/turns/{new_id()}/stream")
        assert (unknown.status, unknown.json["error"]["code"]) == (404, "not_found")


@pytest.mark.requirement("Q6")
@pytest.mark.parametrize(
    ("drain", "end"), [(SECONDS, b'"finishReason":"stop"'), (0.0, b'"errorCode":"server_shutdown"')]
)
async def test_the_stream_of_a_page_stays_open_while_the_server_drains(gateway, drain: float, end: bytes):
    """No other server could continue it: the page would take its part of the answer for all of it."""
    port, engine = gateway
    client = Client(port)
    body = {"id": "c-1", "messages": [PART], "trigger": "submit-message", "model": "sim/story:events=100"}
    reader, writer = await client.open("POST", "/ai-sdk/chat", body)
    async with asyncio.timeout(SECONDS):
        _, headers = await read_head(reader)
        chunks = read_chunks(reader, headers)
        data = b""
        async for chunk in chunks:
            data += chunk
            if b"text-delta" in data:
                break
        draining = asyncio.create_task(engine.drain(drain))
        data += b"".join([chunk async for chunk in chunks])
        await draining
    writer.close()
    assert end in data
    assert data.endswith(b"data: [DONE]\n\n")
