"""Clients of the relay over HTTP, with readers written from its description: chunks, cost, done, error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from tests.server.protocols.document_readers import EventSourceReader, FetchReader
from turnstream.config import AgentSettings, PriceSettings
from turnstream.core.history import PastTurn
from turnstream.engine import Engine
from turnstream.server.protocols import first_output
from turnstream.turns import model_turns

PATH = "/command-center/message"
AGENTS = {
    "echo": AgentSettings(model="sim/echo:pace=0", system="Repeat."),
    "story": AgentSettings(model="sim/story:pace=0.001,events=120"),
    "endless": AgentSettings(model="sim/story:pace=0.01,events=100000"),
    "broken": AgentSettings(model="sim/story:pace=0,fault=error,after=5"),
    "refused": AgentSettings(model="sim/story:fault=error-before,status=401"),
    "silent": AgentSettings(model="sim/story:fault=hang"),
    "retired": AgentSettings(model="sim/echo", active=False),
}
PRICES = {"sim/*": PriceSettings(input_per_million=3, output_per_million=15)}


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", agents=AGENTS, prices=PRICES)
    async with serving(engine.application()) as port:
        yield Client(port)


def message(agent: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"agentId": agent, "message": text, **fields}


async def post(client: Client, body: dict[str, Any]) -> tuple[FetchReader, dict[str, str]]:
    answer = await client.call("POST", PATH, body)
    assert answer.status == 200, answer
    reader = FetchReader()
    reader.take(answer.body)
    return reader, answer.headers


@pytest.mark.requirement("N2", "I2")
async def test_a_fetch_reader_gets_chunks_cost_and_done(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        reader, headers = await post(client, message("echo", "one two three"))
        assert reader.text == "one two three"
        assert reader.names == ["chunk", "cost", "done"]
        cost = dict(reader.events)["cost"]
        assert cost == {"inputTokens": 4, "outputTokens": 3, "totalCost": 0.000057}
        assert dict(reader.events)["done"] == {}
        assert headers["content-type"].startswith("text/event-stream")
        chat = (await client.call("GET", f"/chats/{headers['x-conversation-id']}")).json
        assert chat["metadata"] == {"agentId": "echo"}
        turns = (await client.call("GET", f"/chats/{chat['id']}/path")).json["turns"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"]
        answer = turns[1]
        assert (answer["status"], answer["model"]) == ("complete", "sim/echo:pace=0")
        assert {"agentId", "traceSessionId", "taskTraceId"} <= answer["metadata"].keys()
        assert answer["created_at"]


@pytest.mark.requirement("N2")
async def test_the_answer_is_stored_before_its_cost_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        reader, writer = await client.open("POST", PATH, message("echo", "keep this"))
        seen = FetchReader()
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                seen.take(chunk)
                if "cost" in seen.names:
                    chat = headers["x-conversation-id"]
                    (_, answer) = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
                    assert (answer["status"], answer["blocks"][0]["text_content"]) == (
                        "complete",
                        "keep this",
                    )
                    break
        writer.transport.abort()
    assert "cost" in seen.names


@pytest.mark.requirement("N2")
async def test_the_lines_of_a_frame_are_id_event_data_and_come_in_one_write(tmp_path: Path) -> None:
    async with running(tmp_path) as client, asyncio.timeout(SECONDS):
        reader, writer = await client.open("POST", PATH, message("story", "tell"))
        _, headers = await read_head(reader)
        writes = [chunk async for chunk in read_chunks(reader, headers)]
        writer.close()
    assert len(writes) > 1
    assert all(write.endswith(b"\n\n") for write in writes), "a write has whole frames"
    for frame in b"".join(writes).decode().strip().split("\n\n"):
        if not frame.startswith(":"):
            names = [line.partition(":")[0] for line in frame.split("\n")]
            assert names in (["id"], ["id", "event", "data"]), frame


@pytest.mark.requirement("N2")
async def test_a_conversation_continues_with_its_last_ten_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    history = model_turns._history

    def noted(past: list[PastTurn]) -> Any:
        seen.append([turn.blocks[0].text_content or "" for turn in past])
        return history(past)

    monkeypatch.setattr(model_turns, "_history", noted)
    async with running(tmp_path) as client:
        _, headers = await post(client, message("echo", "m0"))
        chat = headers["x-conversation-id"]
        for number in range(1, 8):
            reader, again = await post(client, message("echo", f"m{number}", conversationId=chat))
            assert again["x-conversation-id"] == chat
            assert reader.text == f"m{number}"
        path = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
    assert len(path) == 16
    assert seen[-1] == [text for number in range(2, 7) for text in (f"m{number}", f"m{number}")] + ["m7"]


@pytest.mark.requirement("N2")
async def test_an_event_source_that_is_cut_anywhere_gets_each_chunk_once(tmp_path: Path) -> None:
    """Cut after a growing number of bytes, and reconnect like an EventSource, until 204."""
    path = f"{PATH}?{urlencode(message('story', 'tell'))}"
    async with running(tmp_path) as client:
        source, connections, limit, statuses = EventSourceReader(), 0, 60, []
        while not source.has_ended:
            connections, limit = connections + 1, limit + 37
            statuses.append(await read_cut(client, path, source, limit))
        assert set(statuses) == {200}
        assert connections > 5
        final = await client.call("GET", path, headers=source.connect())
        assert final.status == 204
        chats = (await client.call("GET", "/command-center/conversations?agentId=story")).json
        assert len(chats["conversations"]) == 1
        chat = chats["conversations"][0]["id"]
        turns = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
    assert len(turns) == 2
    assert source.text == turns[1]["blocks"][0]["text_content"]
    names = [name for name, _ in source.events]
    assert (names.count("done"), names[-1]) == (1, "done")


@pytest.mark.requirement("N2")
async def test_equal_gets_at_the_same_time_start_one_turn(tmp_path: Path) -> None:
    """An EventSource whose first connection is cut before its first byte reconnects while its turn is being
    stored."""
    path = f"{PATH}?{urlencode(message('endless', 'tell'))}"
    async with running(tmp_path) as client, asyncio.timeout(SECONDS):
        opened = await asyncio.gather(*(client.open("GET", path) for _ in range(5)))
        heads = [await read_head(reader) for reader, _ in opened]
        (chat,) = {headers["x-conversation-id"] for _, headers in heads}
        chats = (await client.call("GET", "/command-center/conversations?agentId=endless")).json
        turn = (await client.call("GET", f"/chats/{chat}")).json["active_turn_id"]
        await client.call("POST", f"/turns/{turn}/interrupt")
        texts: set[str] = set()
        for (reader, writer), (_, headers) in zip(opened, heads, strict=True):
            seen = FetchReader()
            async for chunk in read_chunks(reader, headers):
                seen.take(chunk)
            writer.close()
            assert seen.names[-1] == "error"
            texts.add(seen.text)
    assert [found["id"] for found in chats["conversations"]] == [chat]
    assert len(texts) == 1


async def read_cut(client: Client, path: str, source: EventSourceReader, limit: int) -> int:
    """Read at most `limit` bytes of the body, then cut the connection. Return the status."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await client.open("GET", path, headers=source.connect())
        try:
            status, headers = await read_head(reader)
            left = limit
            async for chunk in read_chunks(reader, headers):
                source.take(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break
        finally:
            writer.transport.abort()
    return status


@pytest.mark.requirement("N2")
async def test_a_resume_after_the_end_gives_the_rest_from_the_store(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        whole = (await client.call("POST", PATH, message("echo", "one two three"))).body.decode()
        ids = [line[4:] for line in whole.split("\n") if line.startswith("id: ")]
        texts = []
        for last in ids[:-1]:
            rest = FetchReader()
            answer = await client.call("GET", PATH, headers={"Last-Event-ID": last})
            rest.take(answer.body)
            assert rest.names[-2:] == ["cost", "done"]
            texts.append(rest.text)
        assert (await client.call("GET", PATH, headers={"Last-Event-ID": ids[-1]})).status == 204
    assert texts[0] == "one two three"
    assert "" in texts
    assert all("one two three".endswith(text) for text in texts)


@pytest.mark.requirement("N2")
async def test_a_fault_of_the_provider_and_a_stop_are_errors(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        reader, _ = await post(client, message("broken", "tell"))
        assert reader.names[-1] == "error"
        assert "done" not in reader.names
        assert dict(reader.events)["error"]["error"]
        opened, writer = await client.open("POST", PATH, message("endless", "tell"))
        seen = FetchReader()
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(opened)
            async for chunk in read_chunks(opened, headers):
                seen.take(chunk)
                if seen.text and "error" not in seen.names:
                    chat = headers["x-conversation-id"]
                    turn = (await client.call("GET", f"/chats/{chat}")).json["active_turn_id"]
                    await client.call("POST", f"/turns/{turn}/interrupt")
        writer.close()
    assert seen.names == ["chunk", "error"]
    assert dict(seen.events)["error"] == {"error": "the answer was stopped"}


@pytest.mark.requirement("N2", "P5")
async def test_a_provider_that_refuses_a_post_gives_its_status(tmp_path: Path) -> None:
    """An EventSource cannot read a refusal's body, so it gets the error as an event."""
    async with running(tmp_path) as client:
        answer = await client.call("POST", PATH, message("refused", "tell"))
        assert (answer.status, answer.json["error"]) == (401, "authentication_error")
        assert answer.json["message"]
        chat = answer.headers["x-conversation-id"]
        (_, failed) = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
        assert (failed["status"], failed["blocks"]) == ("error", [])
        listened = await client.call("GET", f"{PATH}?{urlencode(message('refused', 'tell'))}")
        source = EventSourceReader()
        source.take(listened.body)
        assert listened.status == 200
        assert source.events == [("error", {"error": answer.json["message"]})]


@pytest.mark.requirement("N2")
async def test_a_silent_provider_does_not_hold_back_the_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_output, "PATIENCE", 0.01)
    async with running(tmp_path) as client:
        opened, writer = await client.open("POST", PATH, message("silent", "tell"))
        async with asyncio.timeout(SECONDS):
            status, headers = await read_head(opened)
            turn = (await client.call("GET", f"/chats/{headers['x-conversation-id']}")).json["active_turn_id"]
            await client.call("POST", f"/turns/{turn}/interrupt")
            reader = FetchReader()
            async for chunk in read_chunks(opened, headers):
                reader.take(chunk)
        writer.close()
    assert (status, reader.names) == (200, ["error"])


@pytest.mark.requirement("N2")
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (message("retired", "x"), 400, "agent_inactive"),
        (message("unknown", "x"), 404, "agent_not_found"),
        (message("echo", ""), 400, "invalid_request"),
        ({"agentId": "echo"}, 400, "invalid_request"),
        (message("echo", "x", conversationId="01a1fc3d-f972-7b3d-9880-2b4d5256380e"), 404, "not_found"),
    ],
)
async def test_errors_before_the_stream(tmp_path: Path, body: dict[str, Any], status: int, code: str) -> None:
    async with running(tmp_path) as client:
        answer = await client.call("POST", PATH, body)
        assert (answer.status, answer.json["error"]) == (status, code)
        assert answer.json["message"]
        assert (await client.call("GET", "/chats")).json["chats"] == []
        by_get = await client.call("GET", f"{PATH}?{urlencode(body)}")
        assert (by_get.status, by_get.json["error"]) == (status, code)


@pytest.mark.requirement("N2")
async def test_a_get_from_another_site_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        path = f"{PATH}?{urlencode(message('echo', 'x'))}"
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://other.example"}):
            answer = await client.call("GET", path, headers=headers)
            assert (answer.status, answer.json["error"]) == (403, "forbidden")
        assert (await client.call("GET", path, headers={"Sec-Fetch-Site": "same-origin"})).status == 200
        wrong = await client.call("GET", path, headers={"Last-Event-ID": "no id"})
        assert (wrong.status, wrong.json["error"]) == (400, "invalid_cursor")


@pytest.mark.requirement("N2")
async def test_agents_are_listed(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        agents = (await client.call("GET", "/agents")).json["agents"]
    assert {"id": "retired", "model": "sim/echo", "active": False} in agents
    assert [agent["id"] for agent in agents] == [*AGENTS]
