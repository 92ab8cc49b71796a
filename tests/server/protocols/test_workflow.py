"""The AI SDK's workflow transport, and `POST /api/chat`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import SECONDS, Answer, read_head
from tests.server.test_ai_sdk import WEATHER, body, chatting, message, stored_texts, user
from turnstream.core.identifiers import new_id
from turnstream.server.protocols.workflow import FINISH

CHAT = "/chat"
DONE = b"data: [DONE]\n\n"


def chunks_of(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer
    assert answer.body.endswith(DONE)
    return [frame + b"\n\n" for frame in answer.body.removesuffix(DONE).split(b"\n\n")[:-1]]


@pytest.mark.requirement("N3")
async def test_a_run_continues_after_each_chunk(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        asked = {"messages": [user("one")], "model": "sim/story:events=9,pace=0"}
        answer = await client.call("POST", CHAT, asked)
        run, chunks = answer.headers["x-workflow-run-id"], chunks_of(answer)
        for start in range(len(chunks)):
            rest = await client.call("GET", f"{CHAT}/{run}/stream?startIndex={start}")
            assert chunks_of(rest) == chunks[start:]
        for start in (-2, -1000):
            whole = await client.call("GET", f"{CHAT}/{run}/stream?startIndex={start}")
            assert chunks_of(whole) == chunks
            tail = int(whole.headers["x-workflow-stream-tail-index"])
            assert tail + 1 + start == 0, "the client computes the number of the first chunk"


async def test_a_stream_without_a_finish_ends_with_one_for_a_client_that_has_all(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        fault = "sim/story:events=20,pace=0,fault=error-before,status=401"
        answer = await client.call("POST", CHAT, body("c", user("one"), model=fault))
        run, count = answer.headers["x-workflow-run-id"], len(chunks_of(answer))
        rest = await client.call("GET", f"{CHAT}/{run}/stream?startIndex={count}")
        assert rest.body == FINISH
        rest = await client.call("GET", f"{CHAT}/{run}/stream?startIndex={count - 1}")
        assert rest.body.startswith(b'data: {"type":"error"')
        assert rest.body.endswith(DONE + FINISH), "the client need not ask once more"


@pytest.mark.requirement("N3")
async def test_chunks_that_are_not_in_memory_cannot_be_counted(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        asked = body("c", user("one"), model="sim/story:events=3,pace=0")
        run = (await client.call("POST", CHAT, asked)).headers["x-workflow-run-id"]
    async with chatting(tmp_path) as client:
        answer = await client.call("GET", f"{CHAT}/{run}/stream?startIndex=1")
        assert (answer.status, answer.json["error"]["code"]) == (410, "gone")
        assert "no longer be counted" in answer.json["error"]["message"]
        for start in (0, -3):
            whole = UiMessageFold()
            whole.receive((await client.call("GET", f"{CHAT}/{run}/stream?startIndex={start}")).body)
            assert (whole.message_id, whole.ending) == (run, "stop")
            assert whole.texts("text") == await stored_texts(client, run)


async def test_a_start_index_is_a_number_and_its_run_exists(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        for index in ("x", "", "1.5", "--1", "9" * 30):
            assert (await client.call("GET", f"{CHAT}/c/stream?startIndex={index}")).status == 400
        for unknown in (new_id(), "c"):
            assert (await client.call("GET", f"{CHAT}/{unknown}/stream?startIndex=0")).body == FINISH
            assert (await client.call("GET", f"{CHAT}/{unknown}/stream?startIndex=3")).status == 410


async def test_a_page_that_knows_the_chat_only_gets_its_answer(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        answer = await client.call("POST", CHAT, body("c", user("one"), model="sim/echo:pace=0"))
        again = await client.call("GET", f"{CHAT}/c/stream?startIndex=0")
        assert chunks_of(again) == chunks_of(answer)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        {"id": "c", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ],
)
async def test_messages_of_another_protocol_are_refused_with_a_plain_sentence(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    async with chatting(tmp_path) as client:
        answer = await client.call("POST", "/ai-sdk/chat", asked)
        assert answer.status == 400
        assert "the AI SDK" in answer.json["error"]["message"]
        assert (await client.call("GET", "/chats")).json["chats"] == []


async def test_a_message_of_several_turns_is_replayed_whole_and_not_counted(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        options = {"model": "sim/agent:pace=0", "tools": ["clock", WEATHER]}
        first = UiMessageFold()
        first.receive((await client.call("POST", CHAT, body("c", user("one"), **options))).body)
        asked = body("c", user("one"), message(first, weather="clear"), **options)
        answer = await client.call("POST", CHAT, asked)
        whole = UiMessageFold()
        whole.receive((await client.call("GET", f"{CHAT}/c/stream?startIndex=-5")).body)
        assert whole.message_id == first.message_id
        assert [part["type"] for part in whole.parts].count("tool") == 2
        assert (await client.call("GET", f"{CHAT}/c/stream?startIndex=3")).status == 410
        run = answer.headers["x-workflow-run-id"]
        rest = await client.call("GET", f"{CHAT}/{run}/stream?startIndex=1")
        assert chunks_of(rest) == chunks_of(answer)[1:]


async def test_a_run_is_stopped_by_its_id(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        reader, writer = await client.open(
            "POST", CHAT, {"messages": [user("one")], "model": "sim/story:events=100000,pace=0.001"}
        )
        async with asyncio.timeout(SECONDS):
            _, headers = await read_head(reader)
        writer.close()
        run = headers["x-workflow-run-id"]
        assert (await client.call("POST", f"{CHAT}/{run}/stop")).json == {"stopped": [run]}
        assert (await client.call("POST", f"{CHAT}/{run}/stop")).json == {"stopped": []}
