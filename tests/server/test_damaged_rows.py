"""A damaged column of a row costs only its own line. Chats, turns and lists are still answered."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, Watcher, serving
from turnstream.engine import Engine

pytestmark = pytest.mark.fault(5)

BAD: dict[str, Any] = {
    "a word": "x",
    "bytes": b"\xff\xfe",
    "empty": "",
    "a fraction": 1.5,
    "below zero": -1,
    "too large": 2**62,
    "JSON": '[{"a": 1}]',
}
COLUMNS = {
    "chats": ["active_turn_id", "title", "metadata", "created_at", "updated_at"],
    "turns": [
        "prev_turn_id",
        "status",
        "model",
        "system",
        "params",
        "created_at",
        "completed_at",
        "input_tokens",
        "cost",
    ],
    "blocks": ["block_type", "text_content", "content", "created_at", "partial"],
    "attempts": ["step", "number", "model", "outcome", "started_at", "duration", "output_tokens", "cost"],
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(Engine(f"sqlite:///{tmp_path}/turns.sqlite").application()) as port:
        yield Client(port)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("table", COLUMNS)
async def test_one_bad_column_costs_no_list(client: Client, tmp_path: Path, table: str, bad: str) -> None:
    for column in COLUMNS[table]:
        turn_id = await client.start("hello", model="sim/echo:pace=0")
        await Watcher(client, turn_id).watch_to_the_end()
        turn = (await client.call("GET", f"/turns/{turn_id}")).json
        key = {"chats": "id", "turns": "id"}.get(table, "turn_id")
        with closing(sqlite3.connect(tmp_path / "turns.sqlite")) as connection:
            statement = f"UPDATE turnstream_{table} SET {column} = ? WHERE {key} = ?"
            connection.execute(statement, (BAD[bad], turn["chat_id"] if table == "chats" else turn_id))
            connection.commit()
        chat = f"/chats/{turn['chat_id']}"
        for path in (chat, f"{chat}/turns", f"{chat}/path", f"/turns/{turn_id}", f"/turns/{turn_id}/blocks"):
            answer = await client.call("GET", path)
            assert answer.status == 200, (column, path, answer.body)
        assert (await client.call("GET", "/chats")).status == 200
    assert len((await client.call("GET", "/chats?limit=200")).json["chats"]) == len(COLUMNS[table])


async def test_a_block_of_an_unknown_type_keeps_its_text(client: Client, tmp_path: Path) -> None:
    turn_id = await client.start("hello", model="sim/echo:pace=0")
    await Watcher(client, turn_id).watch_to_the_end()
    with closing(sqlite3.connect(tmp_path / "turns.sqlite")) as connection:
        connection.execute("UPDATE turnstream_blocks SET block_type = 'audio' WHERE turn_id = ?", (turn_id,))
        connection.commit()
    (block,) = (await client.call("GET", f"/turns/{turn_id}/blocks")).json["blocks"]
    assert block["text_content"]
    assert set(block["content"]) == {"unreadable"}
