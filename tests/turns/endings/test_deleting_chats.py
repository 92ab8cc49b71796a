"""Deleted chats: gone for every reader at once, with rows that are deleted in portions, between other
writes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.store.reads import ListTurns
from tests.turns.world import OWNER, SECONDS, World
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.errors import NotFound
from turnstream.store.base import BlockRecord, Operation, TurnRecord
from turnstream.store.database import driver_of
from turnstream.store.operations import deleting
from turnstream.store.operations.deleting import DeleteChat, PurgeChat
from turnstream.store.queries import ChatTree, GetChat, GetTurn, ListChats
from turnstream.store.rows import block_row
from turnstream.store.schema import blocks, turns
from turnstream.store.settings import store_settings


class InsertRows(Operation[None], frozen=True, kw_only=True):
    turns: tuple[TurnRecord, ...]
    blocks: tuple[BlockRecord, ...]

    def apply(self, connection) -> None:
        rows = [store_settings(connection, turn) for turn in self.turns]
        driver_of(connection).insert(connection, turns, rows)
        driver_of(connection).insert(connection, blocks, [block_row(row) for row in self.blocks])


async def chat_of(world: World, turns: int, blocks: int, size: int) -> tuple[str, list[str]]:
    """A chat of ended turns, with blocks of a given number and size."""
    chat_id = await world.chat()
    rows = [
        TurnRecord(
            id=new_id(),
            chat_id=chat_id,
            owner=OWNER,
            prev_turn_id=None,
            role="user",
            status="complete",
            created_at=0,
            generation=7,
            last_seq=9,
        )
        for _ in range(turns)
    ]
    stored = [
        BlockRecord(new_id(), turn.id, Block(number, "text", "x" * size), 2, 2, 0)
        for turn in rows
        for number in range(blocks)
    ]
    await world.store.write(InsertRows(turns=tuple(rows), blocks=tuple(stored)))
    return chat_id, [turn.id for turn in rows]


def rows_left(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    try:
        names = ("turns", "blocks", "annotations", "idempotency")
        counts = {
            name: connection.execute(f"SELECT count(*) FROM turnstream_{name}").fetchone()[0]
            for name in names
        }
        # The row of a deleted chat stays, for watchers of the owner's events.
        chats = "SELECT count(*) FROM turnstream_chats WHERE deleted_at IS NULL OR title IS NOT NULL"
        return {"chats": connection.execute(chats).fetchone()[0], **counts}
    finally:
        connection.close()


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion ends after one statement that deleted its allowed number of rows."""
    monkeypatch.setattr(deleting, "PORTION_SECONDS", -1.0)


async def assert_is_gone(world: World, chat_id: str, turn_id: str) -> None:
    for query in (
        GetChat(owner=OWNER, chat_id=chat_id),
        GetTurn(owner=OWNER, turn_id=turn_id),
        GetTurn(owner=None, turn_id=turn_id),
        ListTurns(owner=OWNER, chat_id=chat_id),
    ):
        with pytest.raises(NotFound):
            await world.store.read(query)
    assert await world.store.read(ListChats(owner=OWNER, limit=10)) == []
    with pytest.raises(NotFound):
        await world.ask("hello", chat_id=chat_id)
    with pytest.raises(NotFound):
        await world.watch(turn_id)
    with pytest.raises(NotFound):
        await world.commands.chats.update(OWNER, chat_id, title="new")


@pytest.mark.fault(41)
@pytest.mark.usefixtures("small_portions")
async def test_a_chat_is_gone_for_every_reader_before_its_rows_are(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        chat_id, turn_ids = await chat_of(world, turns=4, blocks=40, size=10)
        assert sorted(await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))) == sorted(turn_ids)
        assert rows_left(world.path)["blocks"] > 100
        await assert_is_gone(world, chat_id, turn_ids[-1])
        with pytest.raises(NotFound):
            await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
        portions = 1
        while not await world.store.write(PurgeChat(chat_id=chat_id)):
            portions += 1
        assert portions > 8
        assert set(rows_left(world.path).values()) == {0}
        assert await world.store.write(PurgeChat(chat_id=chat_id))


@pytest.mark.fault(41)
@pytest.mark.usefixtures("small_portions")
async def test_other_writes_come_between_the_portions(world: World) -> None:
    """While a large chat is deleted, another owner's write waits at most for one portion."""
    chat_id, _ = await chat_of(world, turns=20, blocks=40, size=10)
    purging = asyncio.create_task(world.commands.chats.delete(OWNER, chat_id))
    others = 0
    async with asyncio.timeout(SECONDS):
        while not purging.done():
            await world.commands.chats.create("other")
            others += 1
        await purging
        await asyncio.gather(*world.commands.chats._purges)
    purges = len(world.store.times_of(PurgeChat))
    assert purges > 30
    assert others > purges / 2


@pytest.mark.fault(41)
@pytest.mark.usefixtures("small_portions")
async def test_what_a_stopped_process_left_is_deleted_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        kept, _ = await chat_of(world, turns=2, blocks=3, size=10)
        chat_id, turn_ids = await chat_of(world, turns=3, blocks=40, size=10)
        await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
    assert rows_left(path)["turns"] > 2
    async with Engine(f"sqlite:///{path}") as engine:
        with pytest.raises(NotFound):
            await engine.commands.state(OWNER, turn_ids[0])
        async with asyncio.timeout(SECONDS):
            while rows_left(path)["turns"] > 2:
                await asyncio.gather(*engine.commands.chats._purges, asyncio.sleep(0))
        assert rows_left(path) == {"chats": 1, "turns": 2, "blocks": 6, "annotations": 0, "idempotency": 0}
        assert len((await engine._store.read(ChatTree(chat_id=kept))).path(None)) == 1


@pytest.mark.fault(41)
async def test_a_portion_of_large_rows_ends_in_time(world: World) -> None:
    """For rows of any size, a portion is a few statements of few rows, counted here, and not the whole
    chat."""
    chat_id, _ = await chat_of(world, turns=2, blocks=60, size=300_000)
    await world.store.write(DeleteChat(owner=OWNER, chat_id=chat_id))
    left = rows_left(world.path)["blocks"]
    while not await world.store.write(PurgeChat(chat_id=chat_id)):
        now = rows_left(world.path)["blocks"]
        assert left - now < 120
        left = now
    assert set(rows_left(world.path).values()) == {0}
