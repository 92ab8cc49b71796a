"""Every entrance refuses deeply nested JSON. A row that has it costs only its own line of a list."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.core.admission import NESTING_LIMIT
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
    ToolInputDelta,
)
from turnstream.engine import Engine

pytestmark = pytest.mark.fault(6)

HELLO = [{"block_type": "text", "text_content": "hello"}]
QUICK = "sim/echo:pace=0"


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


class Served(NamedTuple):
    client: Client
    engine: Engine
    database: Path


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    database = tmp_path / "turns.sqlite"
    engine = Engine(f"sqlite:///{database}")
    async with serving(engine.application()) as port:
        yield Served(Client(port), engine, database)


async def all_reads(client: Client, chat: str, turn: str | None = None) -> list[Any]:
    """Return the JSON of every read that shows the chat. Each read must succeed."""
    paths = ["/chats", f"/chats/{chat}", f"/chats/{chat}/turns", f"/chats/{chat}/path"]
    if turn is not None:
        paths += [f"/turns/{turn}", f"/turns/{turn}/blocks", f"/turns/{turn}/siblings"]
    answers = [await client.call("GET", path) for path in paths]
    assert [answer.status for answer in answers] == [200] * len(paths), answers
    return [answer.json for answer in answers]


def turn_body(place: str, value: str) -> bytes:
    """A turn with `value` in one place of its body."""
    result = f'{{"block_type": "tool_result", "content": {{"tool_use_id": "x", "content": {value}}}}}'
    blocks = json.dumps(HELLO)[:-1] + (f", {result}]" if place == "result" else "]")
    more = {
        "metadata": f', "metadata": {value}',
        "params": f', "params": {{"extra_body": {value}}}',
        "tools": f', "tools": [{{"name": "f", "input_schema": {value}}}]',
    }.get(place, "")
    return f'{{"turn_blocks": {blocks}, "model": "{QUICK}"{more}}}'.encode()


@pytest.mark.parametrize("levels", [NESTING_LIMIT + 1, 254, 50_000])
async def test_each_body_of_the_api_is_refused_before_anything_is_made(served: Served, levels: int) -> None:
    client = served.client
    deep = nested(levels)
    refused = await client.call("POST", "/chats", f'{{"metadata": {deep}}}'.encode())
    assert refused.status == 400
    assert (await client.call("GET", "/chats")).json["chats"] == []
    chat = (await client.call("POST", "/chats")).json["id"]
    changed = await client.call("PATCH", f"/chats/{chat}", f'{{"metadata": {deep}}}'.encode())
    assert changed.status == 400
    for place in ("metadata", "params", "tools", "result"):
        for query in ("", "?stream=true"):
            answer = await client.call("POST", f"/chats/{chat}/turns{query}", turn_body(place, deep))
            assert answer.status == 400, place
            assert answer.json["error"]["code"] == "invalid_request"
    assert (await all_reads(client, chat))[2]["turns"] == []


async def test_what_is_within_the_limit_is_kept_and_shown(served: Served) -> None:
    client = served.client
    fits = nested(NESTING_LIMIT)
    chat = (await client.call("POST", "/chats", f'{{"metadata": {fits}}}'.encode())).json["id"]
    for place in ("metadata", "tools"):
        answer = await client.call("POST", f"/chats/{chat}/turns", turn_body(place, fits))
        assert answer.status == 201, place
    for place in ("params", "result"):
        answer = await client.call(
            "POST", f"/chats/{chat}/turns", turn_body(place, nested(NESTING_LIMIT - 1))
        )
        assert answer.status == 201, place
    await all_reads(client, chat, answer.json["assistant_turn"]["id"])


async def foreign(*events: StreamEvent) -> AsyncIterator[StreamEvent]:
    for event in events:
        yield event


def tool_call(text: str) -> list[StreamEvent]:
    start = ContentBlockStart(0, "tool_use", {"tool_use_id": "c", "tool_name": "f"})
    return [start, ToolInputDelta(0, text), ContentBlockStop(0), MessageStop("tool_use")]


@pytest.mark.parametrize("levels", [NESTING_LIMIT + 2, 5000])
@pytest.mark.parametrize("kind", ["input", "provider", "result", "citations"])
async def test_what_a_provider_says_stays_readable(served: Served, levels: int, kind: str) -> None:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    events = {
        "input": tool_call(nested(levels)),
        "provider": [ContentBlockStart(0, "provider", {"raw": value}), ContentBlockStop(0)],
        "result": [
            ContentBlockStart(0, "tool_result", {"tool_use_id": "c", "content": value}),
            ContentBlockStop(0),
        ],
        "citations": [
            ContentBlockStart(0, "text", {"citations": [{"more": value}]}),
            TextDelta(0, "x"),
            ContentBlockStop(0),
        ],
    }[kind]
    turn = await served.engine.start(foreign(*events))
    await turn.wait()
    shown = await all_reads(served.client, turn.chat_id, turn.id)
    blocks = shown[5]["blocks"]
    if kind == "input":
        assert blocks[0]["content"]["input"] is None
        assert "nested deeper" in blocks[0]["content"]["input_error"]
    else:
        assert shown[4]["status"] == "error"


async def test_a_call_s_input_at_the_limit_is_whole(served: Served) -> None:
    turn = await served.engine.start(foreign(*tool_call(nested(NESTING_LIMIT))))
    await turn.wait()
    shown = await all_reads(served.client, turn.chat_id, turn.id)
    assert shown[5]["blocks"][0]["content"]["input"] == json.loads(nested(NESTING_LIMIT))


BAD = [nested(256), nested(5000), "{", '{"a": "\\ud800"}', "[1]"]
COLUMNS = [
    ("chats", "metadata"),
    ("turns", "metadata"),
    ("turns", "params"),
    ("turns", "fences"),
    ("turns", "steps"),
    ("turns", "fallbacks"),
    ("turns", "resets"),
    ("blocks", "content"),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
async def test_a_bad_row_costs_its_own_line(served: Served, bad: str) -> None:
    client = served.client
    good = (await client.call("POST", "/chats", {"title": "good", "metadata": {"k": 1}})).json
    for table, column in COLUMNS:
        chat, turn = await spoilt(served, table, column, bad)
        chats, shown, *_ = await all_reads(client, chat, turn)
        assert any(listed["title"] == "good" for listed in chats["chats"])
        if table == "chats":
            assert list(shown["metadata"]) == ["unreadable"]
            change = {"metadata": {"k": 2}}
            assert (await client.call("PATCH", f"/chats/{chat}", change)).json["metadata"] == {"k": 2}
    assert (await client.call("GET", f"/chats/{good['id']}")).status == 200


async def spoilt(served: Served, table: str, column: str, bad: str) -> tuple[str, str]:
    """A chat with an answered turn. One column of all of its rows in a table then holds `bad`."""
    chat = (await served.client.call("POST", "/chats")).json["id"]
    turn = await served.engine.send("hello", chat_id=chat, model=QUICK)
    await turn.wait()
    database = sqlite3.connect(served.database)
    with database:
        database.execute(f"UPDATE turnstream_{table} SET {column} = ?", (bad,))
    database.close()
    return chat, turn.id


async def test_a_turn_with_unreadable_blocks_is_watched_and_deleted(served: Served) -> None:
    chat, turn = await spoilt(served, "blocks", "content", nested(400))
    watcher = Watcher(served.client, turn)
    await watcher.watch_to_the_end()
    assert [list(block["content"]) for block in watcher.blocks] == [["unreadable"]]
    assert (await served.client.call("DELETE", f"/chats/{chat}")).status == 204


async def test_a_chat_with_unreadable_blocks_goes_on(served: Served) -> None:
    chat, turn = await spoilt(served, "blocks", "content", nested(400))
    again = await served.engine.send("and more", chat_id=chat, prev_turn_id=turn, model=QUICK)
    assert (await again.wait()).turn.status == "complete"


async def test_params_that_cannot_be_read_are_not_inherited(served: Served) -> None:
    chat, turn = await spoilt(served, "turns", "params", nested(400))
    body = {"turn_blocks": HELLO, "prev_turn_id": turn, "model": QUICK}
    refused = await served.client.call("POST", f"/chats/{chat}/turns", body)
    assert (refused.status, refused.json["error"]["code"]) == (400, "invalid_request")
    assert "give params" in refused.json["error"]["message"]
    given = await served.client.call("POST", f"/chats/{chat}/turns", {**body, "params": {}})
    assert given.status == 201
