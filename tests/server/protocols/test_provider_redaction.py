"""A provider withdraws its answer, or blocks the question: in each protocol, in the store, and afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.run_fold import RunFold
from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import SECONDS, Client, Watcher, read_chunks, read_head, serving
from turnstream.core.stream_events import TextDelta
from turnstream.engine import Engine
from turnstream.simulator import texts
from turnstream.simulator.script import story
from turnstream.wires.shared.endings import WITHDRAWN

AFTER = 150
MODEL = f"sim/story:events=3000,seed=3,pace=0.005,fault=redact,after={AFTER}"
"""A story that is withdrawn after three quarters of a second."""
STORY = "".join(event.text for event in story(AFTER, 3) if isinstance(event, TextDelta))
WORDS = sorted({word.strip(".").encode() for word in STORY.split() if len(word) > 6})
"""Words of the story that no other text has."""
SECRET = "the question that nobody may keep"
BLOCKED = "sim/demo:pace=0,fault=redact-input"
USER = [{"role": "user", "content": "tell"}]
QUESTION = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "tell"}]}


class Asked:
    """The hook `prepare`, which keeps the messages of each call."""

    def __init__(self) -> None:
        self.texts: list[list[str | None]] = []

    async def __call__(self, call: Any, _principal: Any) -> None:
        self.texts.append([block.text_content for message in call.messages for block in message.blocks])


@asynccontextmanager
async def running(tmp_path: Path, asked: Asked | None = None) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", prepare=asked)
    async with serving(engine.application()) as port:
        yield Client(port)


async def read(client: Client, method: str, path: str, body: Any = None) -> bytes:
    """Return all bytes of a stream, however its connection ends."""
    data = bytearray()
    async with asyncio.timeout(SECONDS):
        reader, writer = await client.open(method, path, body)
        try:
            status, headers = await read_head(reader)
            assert status == 200
            async for chunk in read_chunks(reader, headers):
                data += chunk
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
    return bytes(data)


async def only_turn(client: Client) -> str:
    """Return the id of the last turn of the only chat."""
    (chat,) = (await client.call("GET", "/chats")).json["chats"]
    turns = (await client.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]
    return turns[-1]["id"]


def has_story(data: bytes) -> bool:
    return any(word in data for word in WORDS)


def files_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


@pytest.mark.requirement("K1", "P5")
async def test_native_watchers_have_the_replacement(tmp_path: Path) -> None:
    asked = Asked()
    async with running(tmp_path, asked) as client:
        turn = await client.start("tell", model=MODEL)
        live, cut = Watcher(client, turn), Watcher(client, turn)
        await cut.watch(events=30)
        position = cut.ids[-1]
        await live.watch_to_the_end()
        assert cut.fold.blocks[0].text_content
        assert live.names.count("block_reset") == 1
        assert [block["text_content"] for block in live.blocks] == [WITHDRAWN]
        assert await client.stored(turn) == live.blocks
        await cut.watch_to_the_end()
        assert cut.blocks == live.blocks
        again = await read(client, "GET", f"/turns/{turn}/stream?after={position}")
        late = await read(client, "GET", f"/turns/{turn}/stream")
        for data in (again, late):
            assert WITHDRAWN.encode() in data
            assert not has_story(data)
        state = (await client.call("GET", f"/turns/{turn}")).json
        chat = state["chat_id"]
        body = {"turn_blocks": [{"block_type": "text", "text_content": "more"}], "model": "sim/echo:pace=0"}
        more = await client.call("POST", f"/chats/{chat}/turns", {**body, "prev_turn_id": turn})
        await Watcher(client, more.json["assistant_turn"]["id"]).watch_to_the_end()
    assert asked.texts[-1][:2] == ["tell", WITHDRAWN]


@pytest.mark.requirement("K1")
async def test_a_question_that_a_guardrail_blocked_is_replaced(tmp_path: Path) -> None:
    asked = Asked()
    async with running(tmp_path, asked) as client:
        turn = await client.start(SECRET, model=BLOCKED)
        live = Watcher(client, turn)
        await live.watch_to_the_end()
        assert "user_redacted" in live.names
        state = (await client.call("GET", f"/turns/{turn}")).json
        stored = await client.stored(state["prev_turn_id"])
        assert [row["text_content"] for row in stored] == [texts.WITHDRAWN]
        body = {"turn_blocks": [{"block_type": "text", "text_content": "more"}], "model": "sim/echo:pace=0"}
        more = await client.call("POST", f"/chats/{state['chat_id']}/turns", {**body, "prev_turn_id": turn})
        await Watcher(client, more.json["assistant_turn"]["id"]).watch_to_the_end()
    assert asked.texts[-1][:2] == [texts.WITHDRAWN, texts.WITHDRAWN]


@pytest.mark.requirement("K1", "N3")
@pytest.mark.parametrize("major", [5, 7])
async def test_a_page_of_the_ai_sdk(tmp_path: Path, major: int) -> None:
    path = "/ai-sdk/chat" if major == 5 else "/ai-sdk/v7/chat"
    async with running(tmp_path) as client:
        data = await read(client, "POST", path, {"id": "a", "messages": [QUESTION], "model": MODEL})
        stored = [row["text_content"] for row in await client.stored(await only_turn(client))]
        fold = UiMessageFold(major)
        fold.receive(data)
    assert stored == [WITHDRAWN]
    assert has_story(data)
    if major == 7:
        assert fold.texts("text") == stored
        assert not has_story(data.partition(b"reset-step")[2])
    else:
        assert fold.error is not None
        assert "retracted" in fold.error


@pytest.mark.requirement("K1", "N4")
async def test_a_client_of_ag_ui(tmp_path: Path) -> None:
    run = {"threadId": "a", "runId": "r", "messages": [{"id": "u", "role": "user", "content": "tell"}]}
    rest: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {"model": MODEL}}
    async with running(tmp_path) as client:
        data = await read(client, "POST", "/ag-ui", {**run, **rest, "protocolVersion": "1.0"})
        stored = [row["text_content"] for row in await client.stored(await only_turn(client))]
    fold = RunFold([])
    fold.receive(data)
    assert fold.texts() == stored == [WITHDRAWN]
    assert has_story(data)
    assert not has_story(data.partition(b"MESSAGES_SNAPSHOT")[2])


@pytest.mark.requirement("K1", "N5", "N6")
@pytest.mark.parametrize("path", ["/chat/completions", "/messages", "/responses"])
async def test_clients_of_providers_get_an_error_and_then_the_replacement(tmp_path: Path, path: str) -> None:
    body: dict[str, Any] = {"model": MODEL, "stream": True, "max_tokens": 9000, "messages": USER}
    if path == "/responses":
        body = {"model": MODEL, "stream": True, "input": "tell"}
    async with running(tmp_path) as native:
        client = Client(native.port, prefix="/v1")
        data = await read(client, "POST", path, body)
        turn = await only_turn(native)
        await Watcher(native, turn).watch_to_the_end()
        assert [row["text_content"] for row in await native.stored(turn)] == [WITHDRAWN]
        assert b"retracted" in data
        assert has_story(data)
        assert not has_story(data.partition(b"was retracted")[2])
        plain = await client.call("POST", path, {**body, "stream": False})
        assert plain.status == 200
        assert WITHDRAWN in json.dumps(plain.json)
        assert not has_story(plain.body)


async def test_a_plain_answer_of_chat_completions_ends_filtered(tmp_path: Path) -> None:
    async with running(tmp_path) as native:
        client = Client(native.port, prefix="/v1")
        answer = await client.call("POST", "/chat/completions", {"model": BLOCKED, "messages": USER})
    (choice,) = answer.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (texts.WITHDRAWN, "content_filter")


@pytest.mark.requirement("K1")
async def test_the_database_keeps_nothing_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        turn = await client.start("tell", model=MODEL)
        live = Watcher(client, turn)
        await live.watch(events=100)
        blocked = await client.start(SECRET, model=BLOCKED)
        await live.watch_to_the_end()
        await Watcher(client, blocked).watch_to_the_end()
    data = files_of(tmp_path)
    assert WITHDRAWN.encode() in data
    assert SECRET.encode() not in data
    assert not has_story(data)
