"""Several answers to one question at once, each an ordinary turn and a branch (requirement A7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import SECONDS, Answer, Client, Watcher, read_chunks, read_head, serving
from turnstream.config import EngineSettings
from turnstream.engine import Engine
from turnstream.errors import InvalidRequest
from turnstream.turns.new_turns import Alternative

pytestmark = pytest.mark.requirement("A7", "P1")
ECHO = "sim/echo:pace=0"
SLOW = "sim/echo:pace=1000"
FAILS = "sim/fault:name=status,status=500"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", settings=EngineSettings(max_active_turns=8))
    async with serving(engine.application()) as port:
        yield Client(port)


async def new_chat(client: Client) -> str:
    return (await client.call("POST", "/chats")).json["id"]


async def ask(client: Client, chat: str, *models: str, key: str | None = None, **fields: Any) -> Answer:
    body = {"turn_blocks": "one two", "alternatives": [{"model": model} for model in models], **fields}
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.call("POST", f"/chats/{chat}/turns", body, headers)


def answers(started: Answer) -> list[dict[str, Any]]:
    assert started.status == 201, started
    return [
        started.json["assistant_turn"],
        *(each["assistant_turn"] for each in started.json["alternatives"]),
    ]


async def ended(client: Client, turn: dict[str, Any]) -> str:
    watcher = Watcher(client, turn["id"])
    await watcher.watch_to_the_end()
    (terminal,) = watcher.terminal_events()
    return terminal


async def turns_of(client: Client, chat: str) -> list[dict[str, Any]]:
    return (await client.call("GET", f"/chats/{chat}/turns")).json["turns"]


async def test_each_alternative_is_a_turn_of_its_own(client: Client) -> None:
    chat = await new_chat(client)
    started = await ask(client, chat, ECHO, FAILS, f"{ECHO},seed=2", params={"max_tokens": 50})
    found = answers(started)
    question = started.json["user_turn"]["id"]
    assert [turn["prev_turn_id"] for turn in found] == [question] * 3
    assert started.json["alternatives"][1]["stream_url"].endswith(f"/turns/{found[2]['id']}/stream")
    assert [turn["params"] for turn in found] == [{"max_tokens": 50}] * 3
    ends = [await ended(client, turn) for turn in found]
    assert ends == ["turn_complete", "turn_error", "turn_complete"]
    siblings = (await client.call("GET", f"/turns/{found[0]['id']}/siblings")).json["turns"]
    assert [turn["id"] for turn in siblings] == [turn["id"] for turn in found]
    assert [turn["cost"] is not None or turn["output_tokens"] for turn in siblings][::2] != [None, None]
    path = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
    assert [turn["id"] for turn in path] == [question, found[0]["id"]]
    assert path[1]["siblings"] == [turn["id"] for turn in found]


async def test_a_stop_ends_one_of_them(client: Client) -> None:
    chat = await new_chat(client)
    first, second = answers(await ask(client, chat, SLOW, SLOW))
    stopped = await client.call("POST", f"/turns/{second['id']}/interrupt")
    assert stopped.json["status"] == "cancelled"
    assert (await client.call("GET", f"/turns/{first['id']}")).json["status"] in ("pending", "streaming")
    await client.call("POST", f"/turns/{first['id']}/interrupt")


async def test_a_conversation_continues_from_any_of_them(client: Client) -> None:
    chat = await new_chat(client)
    found = answers(await ask(client, chat, ECHO, ECHO))
    for turn in found:
        await ended(client, turn)
    body = {"turn_blocks": "three", "prev_turn_id": found[1]["id"], "model": ECHO}
    later = (await client.call("POST", f"/chats/{chat}/turns", body)).json["assistant_turn"]
    await ended(client, later)
    path = (await client.call("GET", f"/chats/{chat}/path")).json["turns"]
    assert [turn["id"] for turn in path][1::2] == [found[1]["id"], later["id"]]


async def test_an_answer_is_regenerated_several_times_at_once(client: Client) -> None:
    chat = await new_chat(client)
    body = {"turn_blocks": "one two", "model": ECHO, "system": "Be brief."}
    old = (await client.call("POST", f"/chats/{chat}/turns", body)).json["assistant_turn"]
    await ended(client, old)
    wanted = {"alternatives": [{"system": "Be long."}, {"metadata": {"number": 2}}]}
    started = await client.call("POST", f"/turns/{old['id']}/regenerate", wanted)
    found = answers(started)
    assert [(turn["system"], turn["model"], turn["metadata"]) for turn in found] == [
        ("Be long.", ECHO, {}),
        ("Be brief.", ECHO, {"number": 2}),
    ]
    assert started.json["user_turn"] is None
    for turn in found:
        assert await ended(client, turn) == "turn_complete"
    siblings = (await client.call("GET", f"/turns/{old['id']}/siblings")).json["turns"]
    assert [turn["id"] for turn in siblings] == [old["id"], *(turn["id"] for turn in found)]


async def test_a_key_starts_them_once(client: Client) -> None:
    chat = await new_chat(client)
    both = await asyncio.gather(*(ask(client, chat, ECHO, ECHO, key="one") for _ in range(3)))
    ids = {tuple(turn["id"] for turn in answers(started)) for started in both}
    assert len(ids) == 1
    for turn in answers(both[0]):
        await ended(client, turn)
    again = await ask(client, chat, ECHO, ECHO, key="one")
    assert tuple(turn["id"] for turn in answers(again)) in ids
    assert len(await turns_of(client, chat)) == 3
    other = await ask(client, chat, ECHO, ECHO, ECHO, key="one")
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_mismatch")
    regenerated = [
        answers(
            await client.call(
                "POST",
                f"/turns/{answers(again)[0]['id']}/regenerate",
                {"alternatives": [{}, {}]},
                {"Idempotency-Key": "two"},
            )
        )
        for _ in range(2)
    ]
    assert [turn["id"] for turn in regenerated[0]] == [turn["id"] for turn in regenerated[1]]
    assert len(await turns_of(client, chat)) == 5


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"alternatives": [{"model": ECHO}]}, 400),
        ({"alternatives": [{"model": ECHO}] * 5}, 400),
        ({"alternatives": [{"model": ECHO}, {"model": "nobody/nothing"}]}, 400),
        ({"alternatives": [{"model": ECHO}, {"tools": ["missing"]}]}, 400),
        ({"alternatives": [{"model": ECHO}, {"params": {"model": "other"}}]}, 400),
        ({"alternatives": [{"model": ECHO}, {"turn_blocks": "x"}]}, 400),
        ({"alternatives": [{"model": ECHO}, {"alternatives": []}]}, 400),
        ({"alternatives": [{}, {}], "store": False}, 400),
        ({"alternatives": [{"model": ECHO}, {"model": "openai/gpt-6.1-sol"}]}, 502),
        ({"alternatives": [{}, {}], "prev_turn_id": "01a1fc3d-f972-7b3d-9880-2b4d5256380e"}, 404),
    ],
)
async def test_one_refusal_stores_nothing(client: Client, fields: dict[str, Any], status: int) -> None:
    chat = await new_chat(client)
    answer = await client.call("POST", f"/chats/{chat}/turns", {"turn_blocks": "one", **fields})
    assert answer.status == status, answer
    assert await turns_of(client, chat) == []


async def test_they_all_fit_or_none_starts(client: Client) -> None:
    chat = await new_chat(client)
    running = answers(await ask(client, chat, SLOW, SLOW, SLOW))
    running += answers(await ask(client, chat, SLOW, SLOW, SLOW))
    refused = await ask(client, chat, SLOW, SLOW, SLOW)
    assert refused.status == 503
    assert len(await turns_of(client, chat)) == 8
    for turn in running:
        await client.call("POST", f"/turns/{turn['id']}/interrupt")
    for turn in answers(await ask(client, chat, SLOW, SLOW, SLOW, SLOW)):
        await client.call("POST", f"/turns/{turn['id']}/interrupt")


async def test_a_stream_shows_the_first_of_them(client: Client) -> None:
    chat = await new_chat(client)
    body = {"turn_blocks": "one two", "alternatives": [{"model": ECHO}, {"model": ECHO}]}
    answer = await client.call("POST", f"/chats/{chat}/turns?stream=true", body)
    assert answer.status == 200
    _, first, second = await turns_of(client, chat)
    assert first["id"].encode() in answer.body
    assert second["id"].encode() not in answer.body
    assert await ended(client, second) == "turn_complete"


async def starts(reader: asyncio.StreamReader, count: int, headers: dict[str, str]) -> list[tuple[str, str]]:
    """The turns that a stream of a chat announces, each with the cursor of its start."""
    seen = b""
    found: list[tuple[str, str]] = []
    async for piece in read_chunks(reader, headers):
        seen += piece
        *frames, _ = seen.decode().split("\n\n")
        lines = [dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line) for frame in frames]
        found = [
            (json.loads(line["data"])["turn_id"], line["id"])
            for line in lines
            if line.get("event") == "turn_start"
        ]
        if len(found) >= count:
            break
    return found


async def test_one_connection_announces_all_of_them(client: Client) -> None:
    """A watcher of the chat gets each answer, also if its connection is cut after the first start."""
    chat = await new_chat(client)
    async with asyncio.timeout(SECONDS):
        reader, writer = await client.open("GET", f"/chats/{chat}/events")
        _, headers = await read_head(reader)
        found = answers(await ask(client, chat, ECHO, ECHO, ECHO))
        ids = [turn["id"] for turn in found]
        announced = await starts(reader, 3, headers)
        writer.transport.abort()
        assert sorted(turn_id for turn_id, _ in announced) == sorted(ids)
        for turn in found:
            await ended(client, turn)
        first, cursor = announced[0]
        reader, writer = await client.open("GET", f"/chats/{chat}/events?after={cursor}")
        _, headers = await read_head(reader)
        later = await starts(reader, 2, headers)
        writer.transport.abort()
        assert {first, *(turn_id for turn_id, _ in later)} == set(ids)


async def test_a_host_application_starts_them(tmp_path: Path) -> None:
    async with Engine(f"sqlite:///{tmp_path}/turns.sqlite") as engine:
        wanted = (Alternative(model=ECHO), Alternative(model=f"{ECHO},seed=2"))
        live = await engine.send("one two", alternatives=wanted)
        (other,) = live.started.alternatives
        async with asyncio.timeout(SECONDS):
            assert (await live.wait()).turn.status == "complete"
            await engine.commands.ended(other.id)
        state = await engine.commands.state("local", other.id)
        assert (state.turn.status, state.turn.model) == ("complete", f"{ECHO},seed=2")
        with pytest.raises(InvalidRequest, match="leave out `alternatives`"):
            await engine.send("one", alternatives=wanted, store=False)
