"""Conversations of OpenAI: created, answered, changed and deleted, with their items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client
from tests.server.protocols.openai_responses.world import asked, create, running, text_of

CONVERSATIONS = "/conversations"


async def new_conversation(client: Client, *items: dict[str, Any], **fields: Any) -> str:
    answer = await client.call("POST", CONVERSATIONS, {"items": list(items), **fields})
    assert answer.status == 200, answer
    return f"{CONVERSATIONS}/{answer.json['id']}"


async def listed(client: Client, path: str, query: str = "order=asc") -> list[dict[str, Any]]:
    return (await client.call("GET", f"{path}/items?{query}")).json["data"]


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def texts(items: list[dict[str, Any]]) -> list[str]:
    return ["|".join(part["text"] for part in item["content"]) for item in items]


@pytest.mark.requirement("N5")
async def test_a_conversation_is_answered_with_all_its_items(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        path = await new_conversation(client, said("one"), said("yes", "assistant"))
        name = path.rpartition("/")[2]
        response = await create(client, asked("two", "sim/echo", conversation=name))
        assert response["conversation"] == {"id": name}
        again = await create(client, asked("three", "sim/echo", conversation={"id": name}))
        expected = ["one", "yes", "two", text_of(response), "three", text_of(again)]
        assert texts(await listed(client, path)) == expected
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        turns = (await native.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]
        assert len(turns) == 6
        items = (await client.call("GET", f"/responses/{again['id']}/input_items")).json["data"]
        assert texts(items) == ["three"]


@pytest.mark.requirement("N5")
async def test_messages_without_an_answer_are_answered_together(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        path = await new_conversation(client)
        name = path.rpartition("/")[2]
        refused = await client.call("POST", "/responses", {"model": "sim/echo", "conversation": name})
        assert refused.status == 400
        for text in ("one", "two"):
            added = await client.call("POST", f"{path}/items", {"items": [said(text)]})
            assert added.status == 200, added
        response = await create(client, {"model": "sim/echo", "conversation": name})
        assert texts(await listed(client, path)) == ["one|two", text_of(response)]
        another = await create(client, asked("three", "sim/echo", conversation=name))
        assert texts(await listed(client, path))[-2:] == ["three", text_of(another)]


@pytest.mark.requirement("N5")
async def test_items_have_ids_and_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        path = await new_conversation(client, said("one"), said("yes", "assistant"), said("two"))
        items = await listed(client, path)
        assert texts(items) == ["one", "yes", "two"]
        assert texts(await listed(client, path, "limit=2")) == ["two", "yes"]
        page = (await client.call("GET", f"{path}/items?limit=1&after={items[2]['id']}")).json
        assert (texts(page["data"]), page["has_more"], page["first_id"]) == (["yes"], True, items[1]["id"])
        assert (await client.call("GET", f"{path}/items/{items[1]['id']}")).json == items[1]
        for query in ("limit=0", "limit=101", "order=up", "after=msg_1"):
            assert (await client.call("GET", f"{path}/items?{query}")).status == 400
        assert (await client.call("GET", f"{path}/items/msg_1")).status == 404


@pytest.mark.requirement("N5")
async def test_a_deleted_item_is_not_seen_by_later_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        path = await new_conversation(client, said("one"), said("yes", "assistant"), said("secret"))
        name = path.rpartition("/")[2]
        items = await listed(client, path)
        assert (await client.call("DELETE", f"{path}/items/{items[2]['id']}")).json["id"] == name
        assert texts(await listed(client, path)) == ["one", "yes"]
        await create(client, asked("two", "sim/echo", conversation=name))
        assert "secret" not in str(await listed(client, path))
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        assert "secret" not in str((await native.call("GET", f"/chats/{chat['id']}/turns")).json)


@pytest.mark.requirement("N5")
async def test_metadata_changes_and_a_deleted_conversation_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        path = await new_conversation(client, metadata={"a": "b"})
        read = (await client.call("GET", path)).json
        assert (read["object"], read["metadata"]) == ("conversation", {"a": "b"})
        changed = (await client.call("POST", path, {"metadata": {"c": "d"}})).json
        assert changed["metadata"] == {"c": "d"}
        deleted = (await client.call("DELETE", path)).json
        assert (deleted["object"], deleted["deleted"]) == ("conversation.deleted", True)
        assert (await client.call("GET", path)).status == 404
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N5")
@pytest.mark.parametrize(
    "body",
    [
        {"items": 7},
        {"items": [7]},
        {"items": [{"role": "system", "content": "x"}]},
        {"items": [{"type": "function_call_output"}]},
        {"items": [said("x")] * 21},
        {"metadata": {"a": 1}},
    ],
)
async def test_a_faulty_conversation_is_refused_and_nothing_is_stored(tmp_path: Path, body: Any) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", CONVERSATIONS, body)
        assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
        assert (await native.call("GET", "/chats")).json["chats"] == []
        path = await new_conversation(client)
        assert (await client.call("POST", f"{path}/items", body)).status == 400
        assert await listed(client, path) == []
