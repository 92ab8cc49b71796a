"""Clients of the AI SDK over HTTP: start, watch again, stop, regenerate, and tools on both sides."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import SECONDS, Client, read_chunks, read_head, serving
from turnstream.config import EngineSettings
from turnstream.engine import Engine
from turnstream.server.protocols import ai_sdk
from turnstream.tools.base import tool

CHAT = "/ai-sdk/chat"
WEATHER = {"name": "weather", "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


@asynccontextmanager
async def chatting(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", tools=[clock])
    async with serving(engine.application()) as port:
        yield Client(port)


def user(text: str, message_id: str = "") -> dict[str, Any]:
    return {"id": message_id or text, "role": "user", "parts": [{"type": "text", "text": text}]}


def body(chat_id: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": chat_id, "messages": list(messages), "trigger": "submit-message", **fields}


async def ask(client: Client, asked: dict[str, Any], path: str = CHAT) -> UiMessageFold:
    """Return the whole answer of a request, read by a strict client."""
    answer = await client.call("POST", path, asked)
    assert (answer.status, answer.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1"), answer
    fold = UiMessageFold(7 if "v7" in path else 5)
    fold.receive(answer.body)
    assert fold.done
    return fold


def message(fold: UiMessageFold, **outputs: Any) -> dict[str, Any]:
    """Return the UI message that a client would send back, with the results of its own tools."""
    parts: list[dict[str, Any]] = []
    for part in fold.parts:
        if part["type"] != "tool":
            parts.append(part)
            continue
        output = part.get("output", outputs.get(part["name"]))
        state = "input-available" if output is None else "output-available"
        parts.append(
            {
                "type": f"tool-{part['name']}",
                "toolCallId": part["id"],
                "state": state,
                "input": part["input"],
                "output": output,
            }
        )
    return {"id": fold.message_id, "role": "assistant", "parts": parts}


async def stored_texts(client: Client, turn_id: str) -> list[str]:
    return [row["text_content"] for row in await client.stored(turn_id) if row["block_type"] == "text"]


@pytest.mark.requirement("N3", "P2")
@pytest.mark.parametrize("path", [CHAT, "/ai-sdk/v6/chat", "/ai-sdk/v7/chat"])
async def test_an_answer_is_the_stored_turn_and_the_next_question_continues_its_chat(
    tmp_path: Path, path: str
) -> None:
    async with chatting(tmp_path) as client:
        first = await ask(client, body("any id, 日本", user("one"), model="sim/story:events=20,pace=0"), path)
        assert first.message_id is not None
        assert first.ending == "stop"
        assert first.texts("text") == await stored_texts(client, first.message_id)
        second = await ask(
            client, body("any id, 日本", user("one"), message(first), user("two"), model="sim/echo"), path
        )
        chat_id = first.metadata["chatId"]
        assert second.metadata["chatId"] == chat_id
        turns = (await client.call("GET", f"/chats/{chat_id}/turns")).json["turns"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
        assert turns[-1]["id"] == second.message_id


@pytest.mark.requirement("N3")
async def test_regenerate_makes_another_answer_to_the_same_question(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        first = await ask(client, body("c", user("one"), model="sim/echo"))
        again = await ask(client, body("c", user("one"), trigger="regenerate-message", model="sim/echo"))
        assert again.message_id != first.message_id
        turns = (await client.call("GET", f"/turns/{again.message_id}")).json
        assert (
            turns["prev_turn_id"]
            == (await client.call("GET", f"/turns/{first.message_id}")).json["prev_turn_id"]
        )


@pytest.mark.requirement("N3")
@pytest.mark.parametrize("stores", [True, False], ids=["rows", "no-rows"])
async def test_a_repeated_request_with_one_message_gets_one_answer(tmp_path: Path, *, stores: bool) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=EngineSettings(store=stores))
    async with serving(engine.application()) as port:
        client = Client(port)
        asked = body("c", user("one"), model="sim/story:events=50,pace=0.005")
        answers = await asyncio.gather(*(ask(client, asked) for _ in range(4)))
        answers.append(await ask(client, asked))
        assert len({answer.message_id for answer in answers}) == 1
        (text,) = {answer.texts("text")[0] for answer in answers}
        assert engine.commands.registry.measures.of_model(asked["model"]).calls == 1
        assert text
        for other in (
            asked | {"trigger": "regenerate-message"},
            asked | {"model": "sim/echo"},
            asked | {"messages": [user("one", "another id")]},
        ):
            answers.append(await ask(client, other))
        assert len({answer.message_id for answer in answers}) == 4


@pytest.mark.requirement("N3")
async def test_a_repeated_request_gets_another_answer_after_a_failure_or_a_stop(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        failing = body("c", user("one"), model="sim/story:events=20,pace=0,fault=error-before,status=401")
        failed = [await ask(client, failing) for _ in range(3)]
        assert [answer.ending for answer in failed] == ["error"] * 3
        assert len({answer.metadata["turnId"] for answer in failed}) == 3
        turns = (await client.call("GET", f"/chats/{failed[0].metadata['chatId']}/turns")).json["turns"]
        roles = sorted(turn["role"] for turn in turns)
        assert roles == ["assistant"] * 3 + ["user"], "the question is stored once"


@pytest.mark.requirement("N3", "P2")
async def test_a_reload_in_mid_answer_replays_the_message_and_a_stop_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(tmp_path) as client:
        asked = body("c", user("one"), model="sim/story:events=100000,pace=0.001")
        reader, writer = await client.open("POST", CHAT, asked)
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
            first = UiMessageFold()
            buffered = b""
            async for chunk in read_chunks(reader, headers):
                buffered += chunk
                whole, separator, buffered = buffered.rpartition(b"\n\n")
                first.receive(whole + separator)
                if sum(map(len, first.texts("text"))) > 200:
                    break
        writer.close()
        reader, writer = await client.open("GET", CHAT + "/c/stream")
        reloaded = UiMessageFold()
        buffered = b""
        async with asyncio.timeout(SECONDS):
            status, headers = await read_head(reader)
            assert status == 200
            stopped: asyncio.Task[Any] | None = None
            async for chunk in read_chunks(reader, headers):
                buffered += chunk
                whole, separator, buffered = buffered.rpartition(b"\n\n")
                reloaded.receive(whole + separator)
                if stopped is None and reloaded.texts("text"):
                    stopped = asyncio.create_task(client.call("POST", CHAT + "/c/stop"))
        writer.close()
        assert stopped is not None
        assert (await stopped).json == {"stopped": [first.message_id]}
        assert reloaded.message_id == first.message_id
        assert reloaded.ending == "abort"
        assert first.message_id is not None
        stored = await stored_texts(client, first.message_id)
        assert reloaded.texts("text") == stored
        assert stored[0].startswith(first.texts("text")[0])
        replayed = UiMessageFold()
        replayed.receive((await client.call("GET", CHAT + "/c/stream")).body)
        assert (replayed.texts("text"), replayed.ending) == (stored, "abort")
        monkeypatch.setattr(ai_sdk, "REPLAY_SECONDS", 0.0)
        assert (await client.call("GET", CHAT + "/c/stream")).status == 204
        assert (await client.call("POST", CHAT + "/c/stop")).json == {"stopped": []}
        assert (await client.call("GET", CHAT + "/unknown/stream")).status == 204


@pytest.mark.requirement("N3")
async def test_a_tool_of_the_client_and_one_of_the_server_share_a_message(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        fields: dict[str, Any] = {"model": "sim/agent", "tools": ["clock", WEATHER]}
        first = await ask(client, body("c", user("one"), **fields))
        assert first.ending == "tool-calls"
        calls = {part["name"]: part for part in first.parts if part["type"] == "tool"}
        assert (calls["clock"]["output"], "output" in calls["weather"]) == ("12:00", False)
        answered = message(first, weather="sunny")
        second = await ask(client, body("c", user("one"), answered, **fields))
        assert second.message_id == first.message_id
        assert second.ending == "stop"
        assert "sunny" in second.texts("text")[-1]
        assert second.metadata["turnId"] != first.message_id


async def test_a_resumed_message_begins_with_the_first_turn_of_its_chain(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        fields: dict[str, Any] = {"tools": [WEATHER]}
        first = await ask(client, body("c", user("one"), model="sim/agent", **fields))
        slow = body(
            "c", user("one"), message(first, weather="sunny"), model="sim/story:events=2000", **fields
        )
        reader, writer = await client.open("POST", CHAT, slow)
        async with asyncio.timeout(SECONDS):
            await read_head(reader)
        writer.close()
        reader, writer = await client.open("GET", CHAT + "/c/stream")
        data = b""
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                data += chunk
                if data.count(b'"type":"text-delta"') > len(first.texts("text")):
                    break
        writer.close()
        await client.call("POST", CHAT + "/c/stop")
        fold = UiMessageFold()
        fold.receive(data[: data.rindex(b"\n\n") + 2])
        assert fold.message_id == first.message_id
        kinds = [part["type"] for part in fold.parts]
        calls = [part for part in fold.parts if part["type"] == "tool"]
        assert kinds[: len(first.parts)] == [part["type"] for part in first.parts]
        assert {call["output"] for call in calls} == {"sunny"}
        assert kinds[-2:] == ["step-start", "text"]


async def test_a_native_turn_is_watched_by_its_chats_own_id(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        turn_id = await client.start("hi", model="sim/story:events=100000,pace=0.001")
        chat_id = (await client.call("GET", f"/turns/{turn_id}")).json["chat_id"]
        reader, writer = await client.open("GET", f"{CHAT}/{chat_id}/stream")
        async with asyncio.timeout(SECONDS):
            status, headers = await read_head(reader)
            data = b""
            async for chunk in read_chunks(reader, headers):
                data += chunk
                if b"text-delta" in data:
                    break
        writer.close()
        assert status == 200
        assert json.loads(data.split(b"\n\n")[0].removeprefix(b"data: "))["messageId"] == turn_id
        assert (await client.call("POST", f"{CHAT}/{chat_id}/stop")).json == {"stopped": [turn_id]}


@pytest.mark.requirement("P5", "N3")
@pytest.mark.parametrize("after", [0, 8])
async def test_a_providers_fault_is_an_error_chunk(tmp_path: Path, after: int) -> None:
    async with chatting(tmp_path) as client:
        fault = f"sim/story:events=20,pace=0,fault=cut,after={after}"
        fold = await ask(client, body("c", user("one"), model=fault))
        assert fold.ending == "error"
        assert fold.metadata["errorCode"]


@pytest.mark.requirement("N3")
@pytest.mark.parametrize(
    ("asked", "place"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"id": "c"}', "messages"),
        (b'{"id": "", "messages": []}', "id"),
        (b'{"id": "c", "messages": []}', "messages"),
        (b'{"id": "c", "messages": [{"role": "system", "parts": []}]}', "user"),
        (
            b'{"id": "c", "messages": [{"role": "user", "parts": [{"type": 7}]}]}',
            "$.messages[0].parts[0].type",
        ),
        (b'{"id": "c", "messages": [{"role": "user", "parts": []}]}', "last message"),
        (
            b'{"id": "c\\u0000", "messages": [{"role": "user", "parts": [{"type": "text", "text": "x"}]}]}',
            "id",
        ),
    ],
)
async def test_a_faulty_body_is_refused_with_its_place_and_nothing_is_stored(
    tmp_path: Path, asked: bytes, place: str
) -> None:
    async with chatting(tmp_path) as client:
        answer = await client.call("POST", CHAT, asked)
        assert answer.status == 400
        assert place in answer.json["error"]["message"]
        assert (await client.call("GET", "/chats")).json["chats"] == []


TEXTS = st.text(max_size=8)
PARTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "file", "reasoning", "tool-clock", "dynamic-tool", "step-start", "data-x"]
        )
    },
    optional={
        "text": TEXTS | st.integers(),
        "url": st.sampled_from(["data:image/png;base64,aGk=", "data:,", "https://a.example/x.png", ""]),
        "mediaType": st.sampled_from(["image/png", "text/plain", "nonsense"]),
        "toolCallId": TEXTS,
        "toolName": TEXTS,
        "state": st.sampled_from(
            [
                "output-available",
                "output-error",
                "output-denied",
                "input-available",
                "approval-responded",
                "x",
            ]
        ),
        "input": st.none() | TEXTS | st.dictionaries(TEXTS, st.integers(), max_size=2),
        "output": st.none() | TEXTS | st.lists(st.floats(), max_size=2),
        "errorText": TEXTS,
        "approval": st.none() | st.fixed_dictionaries({"id": TEXTS, "approved": st.none() | st.booleans()}),
    },
)
BODIES = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant", "system"]),
                    "parts": st.lists(PARTS, max_size=4),
                },
                optional={"id": TEXTS},
            ),
            max_size=4,
        ),
    },
    optional={
        "trigger": st.sampled_from(["submit-message", "regenerate-message", "x"]),
        "tools": st.just(["clock"]),
    },
)


def stored_rows(folder: Path) -> tuple[int, ...]:
    """Return the number of rows in each table that holds content from clients."""
    with closing(sqlite3.connect(folder / "chats.sqlite")) as database:
        tables = ("chats", "turns", "blocks", "client_chats", "client_turns", "idempotency")
        return tuple(
            database.execute(f"SELECT count(*) FROM turnstream_{table}").fetchone()[0] for table in tables
        )


@pytest.mark.requirement("N3")
@pytest.mark.parametrize("path", [CHAT, "/ai-sdk/v7/chat"])
def test_no_body_fails_the_server_and_a_refused_one_stores_nothing(tmp_path: Path, path: str) -> None:
    async def run() -> None:
        async with chatting(tmp_path) as client:
            loop = asyncio.get_running_loop()

            @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
            @given(BODIES)
            def answered(asked: dict[str, Any]) -> None:
                before = stored_rows(tmp_path)
                call = client.call("POST", path, json.dumps({**asked, "model": "sim/echo:pace=0"}).encode())
                answer = asyncio.run_coroutine_threadsafe(call, loop).result(SECONDS)
                assert answer.status in (200, 400, 404, 409, 413), answer
                if answer.status == 200:
                    fold = UiMessageFold(7 if "v7" in path else 5)
                    fold.receive(answer.body)
                    assert fold.done
                else:
                    assert stored_rows(tmp_path) == before

            await asyncio.to_thread(answered)

    asyncio.run(run())
