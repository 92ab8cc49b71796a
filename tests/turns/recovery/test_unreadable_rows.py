"""Damaged rows at a start: their turns end with the readable part."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.store.reads import ListTurns
from tests.turns.recovery.left_turns import (
    KEPT,
    damage,
    leave_a_turn,
    leave_turns,
    state_of,
    texts,
    watch_to_the_end,
)
from tests.turns.world import OWNER, Feed, World
from turnstream.core.stream_events import (
    TextDelta,
)
from turnstream.engine import Engine
from turnstream.server.views import TurnView
from turnstream.store.base import TurnRecord
from turnstream.turns.new_turns import TurnState

BAD_TEXTS = {
    "torn": '{"a": [1',
    "empty": "",
    "word": "nonsense",
    "list": "[1, 2]",
    "number": "5",
    "string": '"text"',
    "too_deep": "[" * 5000 + "]" * 5000,
    "null": "null",
}


@pytest.mark.fault(5)
@pytest.mark.parametrize("column", ["params", "metadata", "fences", "resets", "steps", "fallbacks"])
async def test_turns_whose_columns_cannot_be_read_end_with_their_text(tmp_path: Path, column: str) -> None:
    path = tmp_path / "turns.sqlite"
    damaged = dict(zip(BAD_TEXTS, await leave_turns(path, len(BAD_TEXTS)), strict=True))
    for bad, (turn_id, _) in damaged.items():
        damage(path, f"UPDATE turnstream_turns SET {column} = ? WHERE id = ?", BAD_TEXTS[bad], turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        for turn_id, cursor in damaged.values():
            client = await watch_to_the_end(engine, turn_id, cursor)
            assert client.frames[-1].data["code"] == "orphaned"
            assert texts(await watch_to_the_end(engine, turn_id)) == ["whole", KEPT]
            state = await state_of(engine, turn_id)
            assert (state.turn.status, state.turn.error_code) == ("error", "orphaned")
            for view in (
                TurnView.of_turn(state.turn, state.blocks),
                *map(TurnView.of_turn, await turns_of(engine, state)),
            ):
                view.model_dump_json()


async def turns_of(engine: Engine, state: TurnState) -> list[TurnRecord]:
    return await engine._store.read(ListTurns(owner=OWNER, chat_id=state.turn.chat_id))


@pytest.mark.fault(5)
async def test_blocks_whose_content_cannot_be_read_keep_their_text(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    damaged = dict(zip(BAD_TEXTS, await leave_turns(path, len(BAD_TEXTS)), strict=True))
    for bad, (turn_id, _) in damaged.items():
        damage(path, "UPDATE turnstream_blocks SET content = ? WHERE turn_id = ?", BAD_TEXTS[bad], turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        for turn_id, _ in damaged.values():
            client = await watch_to_the_end(engine, turn_id)
            assert client.frames[-1].data["code"] == "orphaned"
            assert texts(client) == ["whole", KEPT]
            assert [row.block for row in (await state_of(engine, turn_id)).blocks] == client.now.blocks


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "page",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"\x91\xc0",
        b"",
        b"{}",
        b"[[1, 2]]",
        b'[["%s", 1, 0, "text", 4, 9, 7, null]]',
        b'[["%s", 1, 0, "text", "4", 9, "a", null]]',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
async def test_a_page_of_the_journal_that_cannot_be_read_costs_its_own_text(
    tmp_path: Path, page: bytes, as_text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        lost, cursor = await leave_a_turn(world, "lost")
        kept, _ = await leave_a_turn(world)
        await world.crash()
    page = page % lost.encode() if b"%s" in page else page
    cast = "CAST(? AS TEXT)" if as_text else "?"
    first = "SELECT min(page) FROM turnstream_journal"
    damage(path, f"UPDATE turnstream_journal SET segments = {cast} WHERE page = ({first})", page)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, lost, cursor)
        assert "truncated" in [frame.data.get("code") for frame in client.frames]
        assert client.frames[-1].data["code"] == "orphaned"
        assert texts(await watch_to_the_end(engine, lost)) == ["whole"]
        assert texts(await watch_to_the_end(engine, kept)) == ["whole", KEPT]
    assert "a page of the journal cannot be read" in caplog.text


@pytest.mark.fault(5)
async def test_text_after_an_unreadable_page_is_never_joined_to_text_before_it(tmp_path: Path) -> None:
    """The damaged page rewrote the journal, so later segments continue its numbers."""
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        feed = Feed()
        executor = await world.start_foreign(feed.events())
        for word in ("one ", "two "):
            await feed.say(TextDelta(0, word))
            await world.journal.write()
        world.journal.hold()  # so that the older pages stay, as when the process dies before they are deleted
        world.journal._renew = True
        for word in ("three ", "four ", "five ", "six "):
            await feed.say(TextDelta(0, word))
            await world.journal.write()
        await world.crash()
    numbers = "SELECT page FROM turnstream_journal ORDER BY page LIMIT 1 OFFSET 2"
    damage(path, f"UPDATE turnstream_journal SET segments = 'x' WHERE page = ({numbers})")
    async with Engine(f"sqlite:///{path}") as engine:
        assert texts(await watch_to_the_end(engine, executor.turn.id)) == ["one two "]


@pytest.mark.fault(5)
@pytest.mark.parametrize("block_type", ["hologram", "", "tool_use"])
async def test_a_block_of_an_unknown_type_does_not_keep_its_turn_from_ending(
    tmp_path: Path, block_type: str
) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _),) = await leave_turns(path, 1)
    damage(path, "UPDATE turnstream_blocks SET block_type = ? WHERE turn_id = ?", block_type, turn_id)
    damage(
        path, "UPDATE turnstream_journal SET segments = replace(segments, '\"text\"', ?)", f'"{block_type}"'
    )
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await state_of(engine, turn_id)).turn.status == "error"
        live = await engine.send(
            "again",
            chat_id=(await state_of(engine, turn_id)).turn.chat_id,
            prev_turn_id=turn_id,
            model="sim/echo:pace=0",
        )
        assert (await live.wait()).turn.status == "complete"


@pytest.mark.fault(5)
@pytest.mark.parametrize("status", ["bogus", "", "COMPLETE"])
async def test_a_turn_of_an_unknown_status_ends_when_it_is_needed(tmp_path: Path, status: str) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor), (other, _)) = await leave_turns(path, 2)
    damage(path, "UPDATE turnstream_turns SET status = ? WHERE role = 'assistant'", status)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await engine.commands.interrupt(OWNER, other)).turn.status == "error"


@pytest.mark.fault(5)
@pytest.mark.parametrize("column", ["generation", "last_seq", "created_at"])
async def test_a_number_that_is_none_ends_its_turn_alone(
    tmp_path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _), (other, _)) = await leave_turns(path, 2)
    damage(path, f"UPDATE turnstream_turns SET {column} = ? WHERE id = ?", "many", turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        query = "SELECT status FROM turnstream_turns WHERE id = ?"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(query, (turn_id,)).fetchone() == ("error",)
        assert texts(await watch_to_the_end(engine, other)) == ["whole", KEPT]
    if column == "generation":
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        (record,) = [record for record in errors if turn_id in record.getMessage()]
        assert "TypeError" in record.getMessage()


@pytest.mark.fault(5)
async def test_text_that_is_not_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, _), (other, _)) = await leave_turns(path, 2)
    damage(
        path,
        "UPDATE turnstream_blocks SET text_content = CAST(? AS TEXT) WHERE turn_id = ?",
        b"a\xffb",
        turn_id,
    )
    damage(path, "UPDATE turnstream_turns SET system = CAST(? AS TEXT) WHERE id = ?", b"\xc3", turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        assert texts(await watch_to_the_end(engine, turn_id)) == ["a\ufffdb", KEPT]
        assert texts(await watch_to_the_end(engine, other)) == ["whole", KEPT]


@pytest.mark.fault(5)
@pytest.mark.parametrize("role", ["robot", "", b"\xff", 7])
async def test_a_turn_of_an_unknown_role_ends_too(tmp_path: Path, role: Any) -> None:
    path = tmp_path / "turns.sqlite"
    ((turn_id, cursor),) = await leave_turns(path, 1)
    damage(path, "UPDATE turnstream_turns SET role = ? WHERE id = ?", role, turn_id)
    async with Engine(f"sqlite:///{path}") as engine:
        client = await watch_to_the_end(engine, turn_id, cursor)
        assert client.frames[-1].data["code"] == "orphaned"
        assert (await state_of(engine, turn_id)).turn.status == "error"
