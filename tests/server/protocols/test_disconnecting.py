"""Closing the connection: the turn continues, or stops in the protocols of `[server] stop_on_disconnect`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from tests.turns.world import ticks
from turnstream.config import ServerSettings
from turnstream.engine import Engine
from turnstream.server.connection import ConnectionProtocol
from turnstream.store.base import Operation
from turnstream.store.operations.start import StartTurns

MODEL = "sim/story:events=100000,pace=0.001"
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "ai_sdk": (
        "/api/ai-sdk/chat",
        {
            "id": "c",
            "messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}],
            "model": MODEL,
        },
    ),
    "ag_ui": (
        "/api/ag-ui",
        {
            "threadId": "c",
            "runId": "r",
            "state": {},
            "messages": [{"id": "m", "role": "user", "content": "hi"}],
            "tools": [],
            "context": [],
            "forwardedProps": {"model": MODEL},
        },
    ),
    "openai_chat": (
        "/v1/chat/completions",
        {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True},
    ),
    "anthropic": (
        "/v1/messages",
        {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True},
    ),
    "ollama": ("/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}),
    "openai_responses": ("/v1/responses", {"model": MODEL, "input": "hi", "stream": True}),
}


async def watching(client: Client, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for an answer, and read until its first text. Return the connection."""
    path, body = ASKED[protocol]
    reader, writer = await Client(client.port, prefix="").open("POST", path, body)
    async with asyncio.timeout(SECONDS):
        _, headers = await read_head(reader)
        async for chunk in read_chunks(reader, headers):
            if b"Slowly" in chunk:
                break
    return reader, writer


async def newest_turn(client: Client) -> str:
    (chat,) = (await client.call("GET", "/chats")).json["chats"]
    return (await client.call("GET", f"/chats/{chat['id']}/turns")).json["turns"][-1]["id"]


async def status_after_leaving(client: Client, protocol: str, engine: Engine, *, stops: bool) -> str:
    """Start an answer, close its connection, and return the turn's status after that."""
    _reader, writer = await watching(client, protocol)
    writer.transport.abort()
    turn_id = await newest_turn(client)
    if stops:
        async with asyncio.timeout(SECONDS):
            await engine.commands.ended(turn_id)
    status = str((await client.call("GET", f"/turns/{turn_id}")).json["status"])
    if status == "streaming":
        await client.call("POST", f"/turns/{turn_id}/interrupt")
    return status


@pytest.mark.requirement("N3", "N4")
@pytest.mark.parametrize(
    "protocol", ["ai_sdk", "ag_ui", "openai_chat", "openai_responses", "anthropic", "ollama"]
)
@pytest.mark.parametrize("stops", [False, True])
async def test_a_closed_connection_stops_the_turn_only_where_the_settings_say_so(
    tmp_path: Path, protocol: Any, *, stops: bool
) -> None:
    settings = ServerSettings(stop_on_disconnect=(protocol,) if stops else ())
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", server=settings)
    async with serving(engine.application()) as port:
        status = await status_after_leaving(Client(port), protocol, engine, stops=stops)
    assert status == ("cancelled" if stops else "streaming")


@pytest.mark.requirement("N4")
async def test_a_client_that_has_joined_a_run_stops_nothing_when_it_leaves(tmp_path: Path) -> None:
    engine = Engine(
        f"sqlite:///{tmp_path / 'chats.sqlite'}", server=ServerSettings(stop_on_disconnect=("ag_ui",))
    )
    async with serving(engine.application()) as port:
        client = Client(port)
        _reader, starter = await watching(client, "ag_ui")
        _second, joined = await watching(client, "ag_ui")
        streams = engine._keep_alive.streams
        assert len(streams) == 2
        joined.transport.abort()
        async with asyncio.timeout(SECONDS):
            while len(streams) > 1:
                await ticks(1)
            turn_id = await newest_turn(client)
            assert (await client.call("GET", f"/turns/{turn_id}")).json["status"] == "streaming"
            starter.transport.abort()
            await engine.commands.ended(turn_id)
        assert (await client.call("GET", f"/turns/{turn_id}")).json["status"] == "cancelled"


@pytest.mark.requirement("N3", "N4")
@pytest.mark.parametrize("protocol", ["ai_sdk", "ag_ui", "openai_chat", "anthropic", "ollama"])
async def test_a_client_that_leaves_before_the_answer_begins_stops_the_turn_too(
    tmp_path: Path, protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, asked = asyncio.Event(), asyncio.Event()
    noted = ConnectionProtocol.connection_lost

    def connection_lost(self: ConnectionProtocol, error: Exception | None) -> None:
        noted(self, error)
        lost.set()

    monkeypatch.setattr(ConnectionProtocol, "connection_lost", connection_lost)
    engine = Engine(
        f"sqlite:///{tmp_path / 'chats.sqlite'}", server=ServerSettings(stop_on_disconnect=(protocol,))
    )
    write = engine.commands.store.write

    async def slow_write(operation: Operation[Any]) -> Any:
        if isinstance(operation, StartTurns):
            asked.set()
            await lost.wait()
        return await write(operation)

    monkeypatch.setattr(engine.commands.store, "write", slow_write)
    async with serving(engine.application()) as port, asyncio.timeout(SECONDS):
        client = Client(port)
        _reader, writer = await Client(port, prefix="").open("POST", *ASKED[protocol])
        await asked.wait()
        writer.transport.abort()
        while not (await client.call("GET", "/chats")).json["chats"]:
            pass
        turn_id = await newest_turn(client)
        await engine.commands.ended(turn_id)
        assert (await client.call("GET", f"/turns/{turn_id}")).json["status"] == "cancelled"
        assert not engine._keep_alive.streams
