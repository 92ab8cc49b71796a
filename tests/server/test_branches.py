"""Branches over HTTP: regenerate, edit, siblings, and the shown path (requirement A7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import Data, Source, SourceEvent
from turnstream.engine import Engine
from turnstream.server.auth import Principal

pytestmark = pytest.mark.requirement("A7")

QUICK = "sim/echo:pace=0"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        yield Client(port)


class Talk:
    """One chat, and its turns."""

    def __init__(self, client: Client, chat_id: str) -> None:
        self.client = client
        self.chat_id = chat_id

    @classmethod
    async def begin(cls, client: Client) -> Talk:
        return cls(client, (await client.call("POST", "/chats")).json["id"])

    async def say(self, text: str, after: str | None = None, **fields: Any) -> tuple[str, str]:
        """Return the ids of the user's turn and of the answer, which has ended."""
        blocks = [{"block_type": "text", "text_content": text}]
        body = {"turn_blocks": blocks, "prev_turn_id": after, "model": QUICK, **fields}
        started = await self.client.call("POST", f"/chats/{self.chat_id}/turns", body)
        assert started.status == 201, started.body
        answer = started.json["assistant_turn"]["id"]
        await Watcher(self.client, answer).watch_to_the_end()
        return started.json["user_turn"]["id"], answer

    async def path(self, query: str = "") -> list[str]:
        """Return the roles and texts on the path."""
        answer = await self.client.call("GET", f"/chats/{self.chat_id}/path{query}")
        assert answer.status == 200, answer.body
        return [
            f"{turn['role']}: {' '.join(block['text_content'] or '' for block in turn['blocks'])}"
            for turn in answer.json["turns"]
        ]


async def test_an_answer_is_regenerated_beside_the_old_one(client: Client) -> None:
    talk = await Talk.begin(client)
    asked, first = await talk.say("hello")
    started = await client.call("POST", f"/turns/{first}/regenerate")
    assert started.status == 201
    second = started.json["assistant_turn"]
    assert started.json["user_turn"] is None
    assert (second["prev_turn_id"], second["model"]) == (asked, QUICK)
    await Watcher(client, second["id"]).watch_to_the_end()
    siblings = (await client.call("GET", f"/turns/{first}/siblings")).json["turns"]
    assert [turn["id"] for turn in siblings] == [first, second["id"]]
    shown = (await client.call("GET", f"/chats/{talk.chat_id}/path")).json["turns"]
    assert [turn["id"] for turn in shown] == [asked, second["id"]]
    assert shown[1]["siblings"] == [first, second["id"]]


async def test_a_user_turn_may_be_answered_again_with_another_model_as_a_stream(client: Client) -> None:
    talk = await Talk.begin(client)
    asked, _ = await talk.say("hello")
    answer = await client.call(
        "POST", f"/turns/{asked}/regenerate?stream=true", {"model": "sim/story:events=3,pace=0"}
    )
    assert answer.status == 200
    assert b"event: turn_complete" in answer.body
    assert (await talk.path())[1] != "assistant: hello"


async def test_an_edit_is_a_turn_after_the_same_one(client: Client) -> None:
    talk = await Talk.begin(client)
    first, answer = await talk.say("one")
    await talk.say("two", after=answer)
    edited, _ = await talk.say("two, edited", after=answer)
    beginning, _ = await talk.say("another beginning")
    assert await talk.path() == ["user: another beginning", "assistant: another beginning"]
    assert await talk.path(f"?turn_id={edited}") == [
        "user: one",
        "assistant: one",
        "user: two, edited",
        "assistant: two, edited",
    ]
    siblings = (await client.call("GET", f"/turns/{beginning}/siblings")).json["turns"]
    assert [turn["id"] for turn in siblings] == [first, beginning]


async def test_the_branch_that_is_shown_is_kept(client: Client) -> None:
    talk = await Talk.begin(client)
    _, answer = await talk.say("one")
    await talk.say("two", after=answer)
    await talk.say("two, edited", after=answer)
    assert (await talk.path())[2] == "user: two, edited"
    first_two = (await client.call("GET", f"/chats/{talk.chat_id}/path")).json["turns"][2]["siblings"][0]
    change = await client.call("PATCH", f"/chats/{talk.chat_id}", {"active_turn_id": first_two})
    assert change.json["active_turn_id"] == first_two
    assert (await talk.path())[2:] == ["user: two", "assistant: two"]


async def test_regenerating_twice_with_one_key_is_once(client: Client) -> None:
    talk = await Talk.begin(client)
    _, answer = await talk.say("hello")
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(client.call("POST", f"/turns/{answer}/regenerate", {}, key) for _ in range(3))
    )
    assert len({started.json["assistant_turn"]["id"] for started in answers}) == 1
    other = await client.call("POST", f"/turns/{answer}/regenerate", {"model": "sim/demo"}, key)
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_mismatch")


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    talk = await Talk.begin(client)
    other = await Talk.begin(client)
    asked, _ = await other.say("hello")
    for method, path, body in [
        ("POST", f"/turns/{new_id()}/regenerate", {}),
        ("GET", f"/turns/{new_id()}/siblings", None),
        ("GET", f"/chats/{new_id()}/path", None),
        ("GET", f"/chats/{talk.chat_id}/path?turn_id={asked}", None),
        ("PATCH", f"/chats/{new_id()}", {"active_turn_id": asked}),
    ]:
        answer = await client.call(method, path, body)
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found"), path
    for unknown in (asked, new_id()):
        answer = await client.call("PATCH", f"/chats/{talk.chat_id}", {"active_turn_id": unknown})
        assert (answer.status, answer.json["error"]["code"]) == (409, "invalid_active_turn")
    assert await talk.path() == []


async def test_a_branch_has_the_sources_of_its_turns(tmp_path: Path) -> None:
    async def source() -> AsyncIterator[SourceEvent]:
        yield Source("s1", "https://example.org/sky", "The sky")
        yield Data("progress", {"percent": 4})
        yield Source("s2", title="A book")

    engine = Engine(f"sqlite:///{tmp_path}/sources.sqlite", authenticate=lambda _request: Principal("ada"))
    async with serving(engine.application()) as port:
        started = (await engine.start(source(), owner="ada")).started.assistant_turn
        await engine.commands.ended(started.id)
        path = (await Client(port).call("GET", f"/chats/{started.chat_id}/path")).json["turns"]
    events = path[-1]["events"]
    assert [(event["type"], event["source_id"]) for event in events] == [
        ("source", "s1"),
        ("source", "s2"),
    ]
    assert events[0]["url"] == "https://example.org/sky"
