"""Clients of the staged agent over HTTP, with a line reader written from its description."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from tests.server.protocols.document_readers import LineReader
from turnstream import LLM
from turnstream.config import EngineSettings, Settings
from turnstream.engine import Engine
from turnstream.server.auth import key_required, local_use
from turnstream.tools.base import tool
from turnstream.workflow import Stage, StageRun, Workflow, done, running, thinking
from turnstream.workflow.stage import StageOutput

CHAT = "/agent/chat"
STREAM = f"{CHAT}/stream"
FAST = "sim/echo:pace=0"
Run = StageRun[Any]


async def plan(run: Run) -> AsyncIterator[StageOutput]:
    yield thinking("Reading the request")
    run.state.plan = {"steps": 1}
    yield done("planned", plan=run.state.plan)


async def answer(run: Run) -> AsyncIterator[StageOutput]:
    yield running("answering")
    shown = run.answer(run.state.request)
    async for text in shown:
        yield text
    run.state.output = shown.text
    yield done("answered")


async def asks(run: Run) -> AsyncIterator[StageOutput]:
    if run.state.user_input:
        run.state.output = f"It is {run.state.user_input[-1]}."
        yield run.state.output
    else:
        run.state.question = "Which one?"
        yield "Which one?"
    yield done()


def workflow(*stages: Any, model: str = FAST) -> Workflow:
    plain = (Stage("intent_analysis", plan, "intent"), Stage("execution", answer, "execute"))
    return Workflow(LLM(model), stages or plain)


@asynccontextmanager
async def serves(tmp_path: Path, agent: Workflow | None = None, **options: Any) -> AsyncIterator[Client]:
    url = f"sqlite:///{tmp_path / 'chats.sqlite'}"
    engine = Engine(url, workflow=agent or workflow(), **options)
    async with serving(engine.application()) as port:
        yield Client(port)


async def stream(client: Client, query: str, **fields: Any) -> LineReader:
    answered = await client.call("POST", STREAM, {"query": query, "context": {}, **fields})
    assert answered.status == 200, answered
    reader = LineReader()
    reader.take(answered.body)
    return reader


async def new_conversation(client: Client, page: str = "home", **fields: Any) -> int:
    made = await client.call("POST", f"{CHAT}/conversations", {"page_name": page, **fields})
    assert made.status == 200, made
    return made.json["id"]


async def messages(client: Client, conversation: int) -> list[dict[str, Any]]:
    return (await client.call("GET", f"{CHAT}/conversations/{conversation}/messages")).json


@pytest.mark.requirement("N1", "H1")
async def test_a_line_reader_gets_stages_chunks_and_the_end(tmp_path: Path) -> None:
    async with serves(tmp_path) as client:
        reader = await stream(client, "one two three", session_id="s-1")
    assert reader.other == []
    assert reader.events[0] == {"type": "session_start", "session_id": "s-1", "assistant_message_id": None}
    chunks = [event for event in reader.events if event["type"] == "stream_chunk"]
    assert chunks
    assert reader.types == [
        "session_start",
        "thinking",
        "done",
        "running",
        *("stream_chunk" for _ in chunks),
        "done",
        "stream_complete",
    ]
    assert reader.text == "one two three"
    assert [chunk["metadata"] for chunk in chunks] == [{"index": place} for place in range(len(chunks))]
    for event in reader.events[1:-1]:
        assert {"type", "content", "progress", "timestamp", "stage", "node"} <= event.keys()
    assert (chunks[0]["stage"], chunks[0]["node"]) == ("execution", "execute")
    assert "metadata" not in reader.events[1]
    planned = reader.events[2]
    assert planned["metadata"] == {"plan": {"steps": 1}}
    last = reader.events[-1]
    assert (last["content"], last["progress"], last["stage"]) == ("", 1.0, "completed")
    assert "node" not in last


@pytest.mark.requirement("N1")
async def test_a_conversation_keeps_the_messages_with_thinking_and_metadata(tmp_path: Path) -> None:
    async with serves(tmp_path) as client:
        number = await new_conversation(client, document_id="d-7")
        reader = await stream(client, "one two three", conversation_id=number)
        user, assistant = await messages(client, number)
        again = await messages(client, number)
        second = await stream(client, "more", conversation_id=number)
        assert len(await messages(client, number)) == 4
        shown = (await client.call("GET", f"{CHAT}/conversations/{number}")).json
    assert again == [user, assistant]
    assert reader.events[0]["assistant_message_id"] == assistant["id"]
    assert second.events[0]["assistant_message_id"] > assistant["id"]
    assert isinstance(assistant["id"], int)
    assert (user["role"], user["content"], user["status"]) == ("user", "one two three", "completed")
    assert (assistant["content"], assistant["status"]) == ("one two three", "completed")
    assert assistant["parent_message_id"] == str(user["id"])
    assert assistant["conversation_id"] == number
    assert assistant["token_count"] == math.ceil(len("one two three") / 4)
    (thought,) = assistant["thinking"]
    assert (thought["content"], thought["stage"], thought["sequence"]) == (
        "Reading the request",
        "intent_analysis",
        0,
    )
    metadata = json.loads(assistant["metadata"])
    assert [entry["content"] for entry in metadata["done"]] == ["planned", "answered"]
    assert set(metadata["running"][0]) == {"content", "timestamp", "stage", "progress"}
    assert assistant["completed_at"]
    assert shown["title"] == "one two three"
    assert json.loads(shown["metadata"]) == {"document_id": "d-7"}


@pytest.mark.requirement("N1")
async def test_conversations_are_listed_renamed_and_deleted(tmp_path: Path) -> None:
    async with serves(tmp_path) as client:
        first = await new_conversation(client, "home")
        second = await new_conversation(client, "creation", user_id="u-1")
        listed = (await client.call("GET", f"{CHAT}/conversations/list")).json
        assert [item["id"] for item in listed["items"]] == [second, first]
        assert listed["total"] == 2
        fields = {"id", "title", "user_id", "created_at", "updated_at", "metadata", "page_name", "status"}
        assert set(listed["items"][0]) == fields
        for query, found in (
            ("page_name=home", [first]),
            ("user_id=u-1", [second]),
            ("limit=1&offset=1", [first]),
        ):
            page = (await client.call("GET", f"{CHAT}/conversations/list?{query}")).json
            assert [item["id"] for item in page["items"]] == found
        renamed = await client.call("PATCH", f"{CHAT}/conversations/{first}/update", {"title": "Bread"})
        assert renamed.json["title"] == "Bread"
        deleted = await client.call("DELETE", f"{CHAT}/conversations/{first}/update")
        assert deleted.json == {"success": True, "id": first}
        left = (await client.call("GET", f"{CHAT}/conversations/list")).json
        assert (left["total"], left["items"][0]["id"]) == (1, second)
        gone = (await client.call("GET", f"{CHAT}/conversations/list?status=deleted")).json
        assert gone["items"][0]["id"] == first
        missing = await client.call("GET", f"{CHAT}/conversations/999")
        assert (missing.status, missing.json["detail"]) == (404, "no such conversation")


@pytest.mark.requirement("N1")
async def test_a_client_may_write_messages_itself(tmp_path: Path) -> None:
    async with serves(tmp_path) as client:
        number = await new_conversation(client)
        body = {"conversation_id": number, "role": "user", "content": "hello", "token_count": 1}
        said = (await client.call("POST", f"{CHAT}/message/0/create", body)).json
        place = {"conversation_id": number, "role": "assistant"}
        reply = (await client.call("POST", f"{CHAT}/message/stream/{said}/create", place)).json
        assert isinstance(said, int)
        assert isinstance(reply, int)
        for piece in ("good ", "day"):
            appended = {"message_id": reply, "content_chunk": piece}
            assert (await client.call("POST", f"{CHAT}/message/{reply}/append", appended)).json is True
        user, assistant = await messages(client, number)
        assert (assistant["content"], assistant["status"]) == ("good day", "streaming")
        assert (assistant["token_count"], assistant["parent_message_id"]) == (2, str(said))
        assert (await client.call("POST", f"{CHAT}/message/{reply}/finished")).json is True
        change = {"message_id": said, "new_content": "hi", "token_count": 1}
        assert (await client.call("POST", f"{CHAT}/message/{said}/update", change)).json is True
        user, assistant = await messages(client, number)
        assert (user["content"], assistant["status"]) == ("hi", "completed")
        assert assistant["completed_at"]
        assert (await client.call("POST", f"{CHAT}/message/999/append", {"content_chunk": "x"})).status == 404


@pytest.mark.requirement("N1", "D2")
async def test_a_cut_connection_does_not_stop_the_answer_and_an_interrupt_does(tmp_path: Path) -> None:
    agent = workflow(model="sim/story:pace=0.01,events=2000")
    async with serves(tmp_path, agent) as client:
        number = await new_conversation(client)
        reader, writer = await client.open("POST", STREAM, {"query": "tell", "conversation_id": number})
        seen = LineReader()
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                seen.take(chunk)
                if seen.text:
                    break
        writer.transport.abort()
        _, assistant = await messages(client, number)
        assert assistant["status"] == "streaming"
        assert assistant["content"].startswith(seen.text)
        assert assistant["token_count"] == math.ceil(len(assistant["content"].encode()) / 4)
        stopped = await client.call("POST", f"{CHAT}/messages/{assistant['id']}/interrupt")
        assert stopped.json == {"message_id": str(assistant["id"])}
        _, after = await messages(client, number)
        assert after["status"] == "cancelled"
        assert after["content"].startswith(seen.text)


@pytest.mark.requirement("N1", "H3")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/agent/chat/messages/{}/interrupt"), ("DELETE", "/agent/cancel/{}")]
)
async def test_an_interrupted_stream_ends_with_interrupted(tmp_path: Path, method: str, path: str) -> None:
    agent = workflow(model="sim/story:pace=0.01,events=2000")
    async with serves(tmp_path, agent) as client:
        number = await new_conversation(client)
        reader, writer = await client.open("POST", STREAM, {"query": "tell", "conversation_id": number})
        seen, asked = LineReader(), False
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                seen.take(chunk)
                if seen.text and not asked:
                    asked = True
                    mid = seen.events[0]["assistant_message_id"]
                    stopped = await client.call(method, path.format(mid))
                    assert stopped.status == 200
        writer.close()
        state = (await client.call("GET", f"/agent/state/{mid}")).json["state"]
    assert (state["status"], state["stage"], state["success"]) == ("cancelled", "failed", False)
    assert seen.events[-1] == {"type": "interrupted", "content": "the answer was interrupted"}
    assert seen.types.count("interrupted") == 1


@pytest.mark.requirement("N1", "P5")
async def test_a_fault_of_the_provider_ends_with_fail(tmp_path: Path) -> None:
    agent = workflow(model="sim/story:pace=0,fault=error,after=5,code=overloaded_error")
    async with serves(tmp_path, agent) as client:
        number = await new_conversation(client)
        reader = await stream(client, "tell", conversation_id=number)
        _, assistant = await messages(client, number)
    last = reader.events[-1]
    assert (last["type"], last["stage"], last["node"]) == ("fail", "failed", "execute")
    assert last["content"]
    assert "stream_complete" not in reader.types
    assert (assistant["status"], assistant["error_message"]) == ("failed", last["content"])


@pytest.mark.requirement("N1", "H3")
async def test_runs_are_answered_resumed_read_and_cancelled_by_id(tmp_path: Path) -> None:
    async with serves(tmp_path, workflow(Stage("execution", asks, "execute"))) as client:
        run = (await client.call("POST", CHAT, {"query": "change it"})).json
        assert set(run) == {
            "success",
            "workflow_id",
            "stage",
            "query",
            "intent",
            "context",
            "execution",
            "reflection",
            "errors",
        }
        assert (run["success"], run["stage"]) == (True, "completed")
        assert run["execution"]["outputs"] == ["Which one?"]
        path = f"/agent/resume/{run['workflow_id']}"
        without = await client.call("POST", path, {"workflow_id": run["workflow_id"]})
        assert (without.status, without.json["error"]["code"]) == (400, "invalid_request")
        resumed = (await client.call("POST", path, {"user_input": "the second"})).json
        assert resumed["execution"]["outputs"] == ["It is the second."]
        assert resumed["workflow_id"] != run["workflow_id"]
        assert (await client.call("POST", path, {"user_input": "the second"})).json == resumed
        found = (await client.call("GET", f"/agent/state/{resumed['workflow_id']}")).json
        assert (found["success"], found["state"]["status"]) == (True, "complete")
        unknown = "01a1fc3d-f972-7b3d-9880-2b4d5256380e"
        missing = (await client.call("GET", f"/agent/state/{unknown}")).json
        assert missing == {"success": False, "error": "no such workflow"}
        cancelled = (await client.call("DELETE", f"/agent/cancel/{resumed['workflow_id']}")).json
        assert cancelled["success"] is True
        assert (await client.call("DELETE", f"/agent/cancel/{unknown}")).json["success"] is False
        assert (await client.call("GET", "/agent/test")).json["success"] is True


@pytest.mark.requirement("N1")
async def test_keys_come_in_the_agent_s_own_ways(tmp_path: Path) -> None:
    async with serves(tmp_path, authenticate=key_required("secret")) as client:
        assert (await client.call("GET", "/agent/test")).status == 401
        assert (await client.call("GET", "/agent/test?api_key=wrong")).status == 401
        assert (await client.call("GET", "/agent/test?api_key=secret")).status == 200
        assert (await client.call("GET", "/agent/test", headers={"X-API-Key": "secret"})).status == 200
        assert (await client.call("GET", "/chats?api_key=secret")).status == 401


@pytest.mark.requirement("N1")
@pytest.mark.parametrize("body", [{}, {"query": ""}, {"query": "x", "context": {"chat_history": 1}}])
async def test_a_wrong_query_is_refused_before_the_stream(tmp_path: Path, body: dict[str, Any]) -> None:
    async with serves(tmp_path) as client:
        answered = await client.call("POST", STREAM, body)
        assert answered.status == 400
        assert answered.json["detail"]
        missing = await client.call("POST", STREAM, {"query": "x", "conversation_id": 77})
        assert missing.status == 404


@pytest.mark.requirement("N1", "H1")
async def test_a_server_has_the_default_stages_and_its_tools(tmp_path: Path) -> None:
    @tool(ask="always")
    def delete(name: str) -> str:
        """Delete a note."""
        return name

    def lookup(topic: str) -> str:
        """Look a topic up."""
        return f"about {topic}"

    settings = Settings(engine=EngineSettings(default_model="sim/tools:pace=0"))
    url = f"sqlite:///{tmp_path / 'chats.sqlite'}"
    engine = Engine.from_settings(settings, store_url=url, tools=[delete, lookup], authenticate=local_use)
    async with serving(engine.application()) as port:
        client = Client(port)
        stages = (await client.call("GET", "/agent/test")).json["stages"]
        run = (await client.call("POST", CHAT, {"query": "What is new?"})).json
    assert stages == ["intent_analysis", "context_gathering", "execution", "reflection"]
    assert (run["success"], run["stage"], run["intent"]["query_type"]) == (True, "completed", "qa_analysis")
    assert {item["source"] for item in run["context"]["items"]} == {"lookup"}


@pytest.mark.requirement("N1")
async def test_an_engine_without_a_workflow_says_so(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}")
    async with serving(engine.application()) as port:
        answered = await Client(port).call("POST", CHAT, {"query": "x"})
    assert (answered.status, answered.json["error"]["code"]) == (404, "not_found")
    assert "Engine(workflow=" in answered.json["detail"]
