"""Answers about stored turns, chats and blocks, byte for byte. Rows of every version give the same answers.

The rows are written as SQL, so that the package does not create them. `python -m
tests.server.test_stored_answers` writes the answers anew.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.server.live import Client, serving
from turnstream.engine import Engine

ANSWERS = Path(__file__).parent / "golden" / "stored_answers.txt"
CHAT, EMPTY_CHAT = (f"0190a0a0-0000-7000-8000-00000000000{digit}" for digit in "12")
ASKED, ANSWERED, REGENERATED, FAILED, DAMAGED = (f"0190a0a0-1000-7000-8000-00000000000{n}" for n in range(5))
SETTINGS = "d" * 64
MINUTE = 60_000_000
BEGAN = 1_767_225_600_000_000

CHATS: list[dict[str, Any]] = [
    {
        "id": CHAT,
        "title": "A talk «é»",
        "metadata": '{"project":"one","n":[1,2.5,null]}',
        "active_turn_id": ANSWERED,
    },
    {"id": EMPTY_CHAT, "title": None, "metadata": "{}", "active_turn_id": None},
]
TURNS: list[dict[str, Any]] = [
    {
        "id": ASKED,
        "role": "user",
        "prev_turn_id": None,
        "generation": 0,
        "last_seq": 4,
        "completed_at": BEGAN,
    },
    {
        "id": ANSWERED,
        "model": "acme/large",
        "asked_model": "best",
        "fallbacks": '["acme/large","other/small"]',
        "system": 'You are careful.\n"Very" — ✓',
        "params": '{"temperature":0.5,"stop":["a","b"]}',
        "metadata": '{"trace":"t-1","nested":{"x":[true,false]}}',
        "stop_reason": "end_turn",
        "input_tokens": 45,
        "output_tokens": 234,
        "cache_read_tokens": 0,
        "reasoning_tokens": 12,
        "cost": "0.000315",
        "steps": '[{"step":0,"model":"acme/large","usage":{"input_tokens":45,"output_tokens":234},"cost":"0.000315"},'
        '{"step":1,"estimated":true}]',
        "fences": "[[7,12]]",
        "resets": "[[5,1]]",
        "generation": 8,
        "last_seq": 1_048_576,
        "started_at": BEGAN + 2,
        "completed_at": BEGAN + MINUTE,
    },
    {
        "id": REGENERATED,
        "status": "streaming",
        "model": "sim/demo",
        "settings": SETTINGS,
        "created_at": BEGAN + MINUTE,
        "started_at": BEGAN + MINUTE,
    },
    {
        "id": FAILED,
        "prev_turn_id": ANSWERED,
        "status": "error",
        "model": "acme/unpriced",
        "error_code": "api_error",
        "error_message": "the provider failed: \u2028 <&>",
        "input_tokens": 3,
        "cost_estimated": 1,
        "steps": '[{"step":0,"model":"acme/unpriced","usage":{"input_tokens":3}}]',
        "created_at": BEGAN + 2 * MINUTE,
        "completed_at": BEGAN + 3 * MINUTE,
    },
    {
        "id": DAMAGED,
        "prev_turn_id": FAILED,
        "status": "error",
        "role": b"\xff",
        "model": 7,
        "stop_reason": b"end\xff",
        "error_code": "x",
        "params": "[1",
        "metadata": "5",
        "fences": '{"a":1}',
        "resets": '"text"',
        "steps": '[{"step":"one"}]',
        "fallbacks": "[1]",
        "input_tokens": "many",
        "output_tokens": 1.5,
        "created_at": -1,
        "completed_at": 2**62,
    },
]
BLOCKS: list[dict[str, Any]] = [
    {"turn_id": ASKED, "sequence": 0, "block_type": "text", "text_content": "Why?"},
    {
        "turn_id": ANSWERED,
        "sequence": 0,
        "block_type": "thinking",
        "text_content": "Hm",
        "content": '{"signature":"s"}',
    },
    {"turn_id": ANSWERED, "sequence": 1, "block_type": "text", "text_content": "Because ✓ \u0001"},
    {
        "turn_id": ANSWERED,
        "sequence": 2,
        "block_type": "tool_use",
        "content": '{"tool_use_id":"c1","tool_name":"search","input":{"q":"é"},"input_json":"{}"}',
    },
    {"turn_id": FAILED, "sequence": 0, "block_type": "text", "text_content": "Cut", "partial": 1},
    {
        "turn_id": DAMAGED,
        "sequence": 0,
        "block_type": "hologram",
        "text_content": b"a\xffb",
        "created_at": "x",
    },
    {"turn_id": DAMAGED, "sequence": 1, "block_type": "text", "text_content": "kept", "content": "[1, 2]"},
]
ATTEMPTS: list[dict[str, Any]] = [
    {"step": 0, "number": 1, "model": "best/one", "outcome": "overloaded", "duration": 0.25},
    {
        "step": 0,
        "number": 2,
        "model": "acme/large",
        "outcome": "complete",
        "input_tokens": 45,
        "cost": "0.000315",
    },
    {"step": 1, "number": 1, "model": b"\xfe", "outcome": 5, "duration": "long", "started_at": "never"},
]
PATHS = (
    "/chats",
    f"/chats/{CHAT}",
    f"/chats/{EMPTY_CHAT}",
    f"/chats/{CHAT}/turns",
    f"/chats/{CHAT}/turns?limit=2",
    f"/chats/{EMPTY_CHAT}/turns",
    f"/chats/{CHAT}/path",
    f"/chats/{CHAT}/path?turn_id={DAMAGED}&limit=3",
    *(f"/turns/{turn}" for turn in (ASKED, ANSWERED, FAILED, DAMAGED)),
    f"/turns/{ANSWERED}/blocks",
    f"/turns/{DAMAGED}/blocks",
    f"/turns/{ANSWERED}/siblings",
)


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join("?" * len(row))
    statement = f"INSERT INTO turnstream_{table} ({', '.join(row)}) VALUES ({places})"
    connection.execute(statement, [*row.values()])


def fill(path: Path) -> None:
    """Write the rows. A running turn ends here, since it has no executor."""
    with closing(sqlite3.connect(path)) as connection:
        times = {"created_at": BEGAN, "updated_at": BEGAN + MINUTE}
        for chat in CHATS:
            insert(connection, "chats", {"owner": "local", **times, **chat})
        insert(
            connection,
            "settings",
            {"chat_id": CHAT, "digest": SETTINGS, "params": '{"top_k":3}', "system": "Long ago"},
        )
        common = {
            "chat_id": CHAT,
            "owner": "local",
            "prev_turn_id": ASKED,
            "role": "assistant",
            "last_seq": 9,
        }
        stored = {"status": "complete", "generation": 7, "fences": "[]", "params": "{}", "metadata": "{}"}
        for turn in TURNS:
            insert(connection, "turns", {**common, **stored, "created_at": BEGAN, **turn})
        for number, block in enumerate(BLOCKS):
            block_id = f"0190a0a0-2000-7000-8000-00000000000{number}"
            spans = {
                "id": block_id,
                "first_seq": number,
                "last_seq": number,
                "partial": 0,
                "created_at": BEGAN + number,
            }
            insert(connection, "blocks", {**spans, **block})
        for attempt in ATTEMPTS:
            tried = {"turn_id": ANSWERED, "started_at": BEGAN, "duration": 1.5, "estimated": 0}
            insert(connection, "attempts", {**tried, **attempt})
        connection.commit()


async def answers(path: Path) -> str:
    """Return the status and body of each path."""
    async with Engine(f"sqlite:///{path}"):
        pass
    fill(path)
    found: list[str] = []
    async with serving(Engine(f"sqlite:///{path}").application()) as port:
        client = Client(port)
        state = (await client.call("GET", f"/turns/{REGENERATED}")).json
        assert (state["status"], state["error"]["code"]) == ("error", "orphaned")
        with closing(sqlite3.connect(path)) as connection:
            statement = "UPDATE turnstream_turns SET completed_at = ? WHERE id = ?"
            connection.execute(statement, (BEGAN + 2 * MINUTE, REGENERATED))
            connection.commit()
        for asked in (*PATHS, f"/turns/{REGENERATED}"):
            answer = await client.call("GET", asked)
            found.append(f"{asked}\n{answer.status} {answer.body.decode()}\n")
    return "\n".join(found)


async def test_stored_rows_are_answered_as_ever(tmp_path: Path) -> None:
    expected = ANSWERS.read_text()
    found = await answers(tmp_path / "turns.sqlite")
    for one, other in zip(found.splitlines(), expected.splitlines(), strict=True):
        assert one == other
    assert json.loads(expected.split("\n", 2)[1].partition(" ")[2])["next"] is None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        ANSWERS.write_text(asyncio.run(answers(Path(folder) / "turns.sqlite")))
