"""System prompts and params are stored once in a chat, for any number of turns that inherit them. Answers
stay the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.store.reads import ListTurns
from tests.turns.world import OWNER, Feed, World
from turnstream.core.identifiers import new_id
from turnstream.store.base import TurnRecord
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import GetTurn
from turnstream.turns.histories import PORTION, read_history

LARGE = "You are careful. " * 6000
PARAMS = {"response_schema": {"type": "object", "description": "d" * 2000}}


def turn_in(chat_id: str, prev: str | None, system: str | None, params: dict[str, Any]) -> TurnRecord:
    return TurnRecord(
        id=new_id(),
        chat_id=chat_id,
        owner=OWNER,
        prev_turn_id=prev,
        role="assistant",
        status="complete",
        created_at=0,
        generation=7,
        system=system,
        params=params,
        last_seq=1,
    )


async def chain(
    world: World, chat_id: str, settings: list[tuple[str | None, dict[str, Any]]]
) -> list[TurnRecord]:
    turns: list[TurnRecord] = []
    for system, params in settings:
        turns.append(turn_in(chat_id, turns[-1].id if turns else None, system, params))
        await world.store.write(
            StartTurns(turn_id=turns[-1].id, owner=OWNER, user_turn=None, assistant_turn=turns[-1])
        )
    return turns


def count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT count(*) FROM turnstream_{table}").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.fault(40)
async def test_three_hundred_turns_hold_one_copy_of_what_they_inherit(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite"
    async with World(path) as world:
        chat_id = await world.chat()
        turns = await chain(world, chat_id, [(LARGE, PARAMS)] * 300)
        read = await world.store.read(ListTurns(owner=OWNER, chat_id=chat_id))
        assert {(turn.system, len(turn.params)) for turn in read} == {(LARGE, 1)}
        assert len({id(turn.system) for turn in read}) == 1
        history = await read_history(world.store, turns[-1].id)
        assert len(history) == 300
        portions = -(-300 // PORTION.turns)
        assert len({id(turn.system) for turn, _ in history}) == portions, "one object in each portion"
    assert path.stat().st_size < 10 * len(LARGE)


@pytest.mark.fault(40)
async def test_each_turn_is_read_with_the_settings_that_it_was_given(world_at: World) -> None:
    cases: list[tuple[str | None, dict[str, Any]]] = [
        (None, {}),
        ("short", {"temperature": 1}),
        (LARGE, {}),
        (LARGE, PARAMS),
        (None, PARAMS),
        ("", PARAMS),
        (LARGE + "!", PARAMS),
        (LARGE, {}),
    ]
    chat_id = await world_at.chat()
    turns = await chain(world_at, chat_id, cases)
    for turn in turns:
        assert await world_at.store.read(GetTurn(owner=OWNER, turn_id=turn.id)) == turn
    assert await world_at.store.read(ListTurns(owner=OWNER, chat_id=chat_id)) == turns
    assert [turn for turn, _ in await read_history(world_at.store, turns[-1].id)] == turns
    assert count(world_at.path, "settings") == 5


@pytest.mark.fault(40)
async def test_settings_go_with_their_chat_and_belong_to_no_other(world_at: World) -> None:
    first, second = await world_at.chat(), await world_at.chat()
    await chain(world_at, first, [(LARGE, {})])
    (kept,) = await chain(world_at, second, [(LARGE, {})])
    await world_at.commands.chats.delete(OWNER, first)
    assert count(world_at.path, "settings") == 1
    assert (await world_at.store.read(GetTurn(owner=OWNER, turn_id=kept.id))).system == LARGE


@pytest.mark.fault(40)
async def test_rows_that_hold_their_own_are_read_as_before(world_at: World) -> None:
    """Rows in the form of an earlier version."""
    chat_id = await world_at.chat()
    (turn,) = await chain(world_at, chat_id, [("small", {})])
    connection = sqlite3.connect(world_at.path)
    connection.execute("UPDATE turnstream_turns SET system = ?, params = ?", (LARGE, '{"top_k": 3}'))
    connection.commit()
    connection.close()
    read = await world_at.store.read(GetTurn(owner=OWNER, turn_id=turn.id))
    assert (read.system, read.params) == (LARGE, {"top_k": 3})
    feed = Feed()
    feed.end()
    executor = await world_at.start_foreign(
        feed.events(), chat_id=chat_id, prev_turn_id=turn.id, system=read.system, params=read.params
    )
    state = await world_at.ended(executor.turn.id)
    assert (state.turn.system, state.turn.params) == (LARGE, {"top_k": 3})


@pytest.fixture
async def world_at(tmp_path: Path):
    async with World(tmp_path / "turns.sqlite") as world:
        yield world
