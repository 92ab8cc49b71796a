"""Bytes that are not UTF-8 text are refused before anything is stored. Everything stored can be answered."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request

from tests.server.live import Client, Watcher, serving
from turnstream.engine import Engine
from turnstream.server.auth import Principal

pytestmark = pytest.mark.fault(13)

TURN = '{"turn_blocks": [{"block_type": "text", "text_content": "x%s"}], "model": "sim/echo:pace=0"}'
NOT_TEXT = {
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "a low surrogate": b"\xed\xb0\x80",
    "no UTF-8": b"\xff",
    "Latin-1": b"\xfc",
    "half a character": b"\xe2\x82",
    "an overlong form": b"\xc0\xaf",
    "above Unicode": b"\xf4\x90\x80\x80",
}
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


class Place(NamedTuple):
    """A body that a route accepts. `%s` is the place of its text."""

    method: str
    path: str
    body: str


PLACES = {
    "a chat's title": Place("POST", "/chats", '{"title": "x%s"}'),
    "a chat's metadata": Place("POST", "/chats", '{"metadata": {"k%s": 1}}'),
    "a chat's new title": Place("PATCH", "/chats/{chat}", '{"title": "x%s"}'),
    "a turn": Place("POST", "/chats/{chat}/turns", TURN),
    "a streamed turn": Place("POST", "/chats/{chat}/turns?stream=true", TURN),
    "another answer": Place("POST", "/turns/{turn}/regenerate", '{"system": "x%s"}'),
    "another streamed answer": Place("POST", "/turns/{turn}/regenerate?stream=true", '{"system": "x%s"}'),
}
each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


class World(NamedTuple):
    client: Client
    chat: str
    turn: str
    metadata: dict[str, Any]
    """Bytes that the host adds to each body."""

    async def counts(self) -> tuple[int, int]:
        chats = (await self.client.call("GET", "/chats?limit=200")).json["chats"]
        turns = (await self.client.call("GET", f"/chats/{self.chat}/turns")).json["turns"]
        return len(chats), len(turns)

    def path(self, place: Place) -> str:
        return place.path.format(chat=self.chat, turn=self.turn)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    metadata: dict[str, Any] = {}

    def authenticate(_request: Request) -> Principal:
        return Principal("alice", metadata)

    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite", authenticate=authenticate)
    async with serving(engine.application()) as port:
        client = Client(port)
        chat = (await client.call("POST", "/chats", {"title": "kept"})).json["id"]
        started = (await client.call("POST", f"/chats/{chat}/turns", json.loads(TURN % ""))).json
        turn = started["assistant_turn"]["id"]
        await Watcher(client, turn).watch_to_the_end()
        yield World(client, chat, turn, metadata)


async def check_refused(world: World, place: Place, body: bytes) -> None:
    before = await world.counts()
    answer = await world.client.call(place.method, world.path(place), body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request"), body
    assert "UTF-8" in answer.json["error"]["message"]
    assert await world.counts() == before
    assert (await world.client.call("GET", f"/chats/{world.chat}")).json["title"] == "kept"


@each_place
async def test_bytes_that_are_no_text_are_refused(world: World, place: Place) -> None:
    for raw in NOT_TEXT.values():
        await check_refused(world, place, place.body.encode().replace(b"%s", raw))


@each_place
@pytest.mark.parametrize("text", ["é", "\ud800"], ids=["text", "a surrogate"])
async def test_other_encodings_are_refused(world: World, place: Place, text: str) -> None:
    for encoding in ENCODINGS:
        await check_refused(world, place, (place.body % text).encode(encoding, "surrogatepass"))


@each_place
async def test_utf_8_is_taken_with_its_mark_and_without(world: World, place: Place) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        answer = await world.client.call(
            place.method, world.path(place), (place.body % "Grüße 👋").encode(encoding)
        )
        assert answer.status in (200, 201)


async def test_a_route_that_needs_no_body_refuses_one_too(world: World) -> None:
    for body in (b"\xed\xa0\x80", "{}".encode("utf-16")):
        await check_refused(world, Place("POST", "/turns/{turn}/interrupt", ""), body)


@pytest.mark.parametrize("raw", NOT_TEXT.values(), ids=NOT_TEXT)
async def test_paths_queries_and_headers_cannot_make_it_fail(world: World, raw: bytes) -> None:
    """In a path or a query, such bytes are a malformed id or cursor. A header's value is Latin-1."""
    escaped = "".join(f"%{byte:02x}" for byte in raw)
    for path in (
        f"/chats/{escaped}",
        f"/turns/{escaped}/stream",
        f"/chats?before={escaped}",
        f"/chats?before=1:{escaped}",
        f"/chats/{world.chat}/path?turn_id={escaped}",
        f"/turns/{world.turn}/stream?after={escaped}",
    ):
        assert (await world.client.call("GET", path)).status == 400, path
    place = PLACES["a turn"]
    key = {"Idempotency-Key": raw.decode("latin-1")}
    made: list[Any] = []
    for _ in range(2):
        answer = await world.client.call(place.method, world.path(place), json.loads(place.body % ""), key)
        assert answer.status == 201
        made.append(answer.json["assistant_turn"]["id"])
    assert made[0] == made[1]


ODD = {
    "nan": float("nan"),
    "infinity": [float("inf")],
    "bytes": b"x",
    "a date": dt.date(2026, 1, 2),
    "a surrogate": "\ud800",
    "an integer key": {1: 2},
    "a large integer": 2**80,
    "a tuple": (1, "\udc00"),
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
async def test_what_was_made_is_answered_as_it_is_stored(world: World, value: Any) -> None:
    """A host's own metadata may hold anything."""
    world.metadata["odd"] = value
    chat = await world.client.call("POST", "/chats", {"title": "x"})
    assert chat.status == 201
    assert (await world.client.call("GET", f"/chats/{chat.json['id']}")).json == chat.json
    started = await world.client.call("POST", world.path(PLACES["a turn"]), json.loads(TURN % ""))
    assert started.status == 201
    user, assistant = started.json["user_turn"], started.json["assistant_turn"]
    assert (await world.client.call("GET", f"/turns/{user['id']}")).json == user
    stored = (await world.client.call("GET", f"/turns/{assistant['id']}")).json
    assert stored["metadata"] == assistant["metadata"] == user["metadata"] == chat.json["metadata"]
    again = await world.client.call("POST", world.path(PLACES["another answer"]), {})
    assert again.json["assistant_turn"]["metadata"] == stored["metadata"]
