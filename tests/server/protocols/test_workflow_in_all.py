"""A run of a workflow, started by the staged agent's route, is followed in the other protocols."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from tests.server.protocols.document_readers import FetchReader, LineReader
from turnstream import LLM
from turnstream.engine import Engine
from turnstream.workflow import StageRun, Workflow, done, thinking
from turnstream.workflow.stage import StageOutput

CHAT = "/agent/chat"


async def plan(run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    yield thinking("planning")
    yield done(words=len(run.state.query.split()))


async def answer(run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    async for text in run.answer(run.state.query):
        yield text
    yield done()


async def asked(client: Client) -> tuple[str, str]:
    """Run the workflow. Return its chat and its turn."""
    made = (await client.call("POST", f"{CHAT}/conversations", {"page_name": "home"})).json
    body = {"query": "one two three", "conversation_id": made["id"]}
    reader = LineReader()
    reader.take((await client.call("POST", f"{CHAT}/stream", body)).body)
    assert reader.types[-1] == "stream_complete"
    (chat,) = (await client.call("GET", "/chats")).json["chats"]
    return chat["id"], chat["active_turn_id"]


@pytest.mark.requirement("P2", "H1", "N1")
async def test_a_run_is_followed_in_every_protocol(tmp_path: Path) -> None:
    agent = Workflow(LLM("sim/echo:pace=0"), [plan, answer])
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", workflow=agent)
    async with serving(engine.application()) as port:
        client = Client(port)
        chat_id, turn_id = await asked(client)
        native = Watcher(client, turn_id)
        await native.watch_to_the_end()
        assert native.blocks == await client.stored(turn_id)
        assert native.names.count("data") == 6
        relayed = FetchReader()
        begun = {"Last-Event-ID": f"{turn_id}:1-0"}
        relayed.take((await client.call("GET", "/command-center/message", headers=begun)).body)
        assert (relayed.text, relayed.names) == ("one two three", ["chunk", "cost", "done"])
        chunks = await ui_chunks(client, f"/ai-sdk/chat/{chat_id}/stream")
        text = "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")
        shown = [chunk["data"]["type"] for chunk in chunks if chunk["type"] == "data-workflow"]
        assert (text, shown) == ("one two three", ["thinking", "done", "done"])
        assert chunks[-1]["type"] == "finish"


async def ui_chunks(client: Client, path: str) -> list[dict[str, Any]]:
    body = (await client.call("GET", path)).body.decode()
    lines = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
