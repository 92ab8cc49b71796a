"""Pages of the AI SDK that have a message in part, and name it: they get all of it, or an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import Client, serving
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.server.protocols import ai_sdk

CHAT = "/ai-sdk/chat"
WEATHER = {"name": "weather", "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client of a server on which every answer ended too long ago to be replayed by itself."""
    monkeypatch.setattr(ai_sdk, "REPLAY_SECONDS", 0.0)
    async with serving(Engine(f"sqlite:///{tmp_path}/a.sqlite").application()) as port:
        yield Client(port)


def question(text: str) -> dict[str, Any]:
    return {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}


async def answer(client: Client, *messages: dict[str, Any], **fields: Any) -> UiMessageFold:
    body = {"id": "c", "messages": list(messages), "trigger": "submit-message", **fields}
    return folded((await client.call("POST", CHAT, body)).body)


def folded(data: bytes) -> UiMessageFold:
    fold = UiMessageFold()
    fold.receive(data)
    assert fold.done
    return fold


async def resume(client: Client, message_id: str | None) -> tuple[int, bytes]:
    """Return the status and the body for a page that has a message in part."""
    headers = {} if message_id is None else {"x-message-id": message_id}
    resumed = await client.call("GET", CHAT + "/c/stream", headers=headers)
    return resumed.status, resumed.body


@pytest.mark.requirement("N3", "P5")
async def test_a_message_that_a_page_has_in_part_is_replayed_whenever_its_answer_ended(client: Client):
    first = await answer(client, question("one"))
    said = {"id": first.message_id, "role": "assistant", "parts": [{"type": "text", "text": "one"}]}
    second = await answer(client, question("one"), said, question("two"))
    for whole in (first, second):
        status, data = await resume(client, whole.message_id)
        assert status == 200
        again = folded(data)
        assert (again.message_id, again.ending) == (whole.message_id, "stop")
        assert again.texts("text") == whole.texts("text") != []
    assert await resume(client, None) == (204, b"")


@pytest.mark.requirement("N3")
async def test_a_message_is_replayed_with_all_turns_of_its_chain(client: Client):
    fields: dict[str, Any] = {"model": "sim/tools", "tools": [WEATHER]}
    asked = await answer(client, question("one"), **fields)
    parts: list[dict[str, Any]] = [{"type": "text", "text": asked.texts("text")[0]}]
    for call in asked.parts:
        if call["type"] == "tool":
            parts.append({"type": "tool-weather", "toolCallId": call["id"], "input": call["input"]})
            parts[-1] |= {"state": "output-available", "output": "sunny"}
    said = {"id": asked.message_id, "role": "assistant", "parts": parts}
    rest = await answer(client, question("one"), said, **fields)
    assert rest.message_id == asked.message_id != rest.metadata["turnId"]
    status, data = await resume(client, asked.message_id)
    assert status == 200
    again = folded(data)
    assert again.message_id == asked.message_id
    assert again.texts("text") == [*asked.texts("text"), *rest.texts("text")]


@pytest.mark.requirement("P5")
async def test_a_message_that_is_not_here_is_an_error_and_a_question_is_none(client: Client):
    await answer(client, question("one"))
    (loaded, _) = (await client.call("GET", CHAT + "/c/messages")).json
    assert loaded["role"] == "user"
    for other in (loaded["id"], "any text of the page"):
        assert await resume(client, other) == (204, b"")
    status, body = await resume(client, new_id())
    assert (status, b"not_found" in body) == (404, True)
