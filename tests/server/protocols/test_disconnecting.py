"""Closing the connection: the turn continues, or stops in the protocols of `[server] stop_on_disconnect`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from turnstream.config import ServerSettings
from turnstream.engine import Engine

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
}


async def status_after_leaving(client: Client, protocol: str, engine: Engine, *, stops: bool) -> str:
    """Start an answer, close its connection, and return the turn's status after that."""
    path, body = ASKED[protocol]
    reader, writer = await Client(client.port, prefix="").open("POST", path, body)
    async with asyncio.timeout(SECONDS):
        _, headers = await read_head(reader)
        async for chunk in read_chunks(reader, headers):
            if b"Slowly" in chunk:
                break
    writer.transport.abort()
    (chat,) = (await client.call("GET", "/chats")).json["chats"]
    turns = (await client.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]
    turn_id = turns[-1]["id"]
    if stops:
        async with asyncio.timeout(SECONDS):
            await engine.commands.ended(turn_id)
    status = str((await client.call("GET", f"/turns/{turn_id}")).json["status"])
    if status == "streaming":
        await client.call("POST", f"/turns/{turn_id}/interrupt")
    return status


@pytest.mark.requirement("N3", "N4")
@pytest.mark.parametrize("protocol", ["ai_sdk", "ag_ui", "openai_chat", "anthropic", "ollama"])
@pytest.mark.parametrize("stops", [False, True])
async def test_a_closed_connection_stops_the_turn_only_where_the_settings_say_so(
    tmp_path: Path, protocol: Any, *, stops: bool
) -> None:
    settings = ServerSettings(stop_on_disconnect=(protocol,) if stops else ())
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", server=settings)
    async with serving(engine.application()) as port:
        status = await status_after_leaving(Client(port), protocol, engine, stops=stops)
    assert status == ("cancelled" if stops else "streaming")
