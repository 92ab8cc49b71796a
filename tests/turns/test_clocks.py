"""The database's times order chats and turns. A process with a wrong clock changes no order."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.store.reads import ListTurns
from tests.turns.world import OWNER, Feed, World
from turnstream.core.blocks import Block
from turnstream.model_loop.sources import ForeignSource
from turnstream.store.base import Query
from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.queries import ChatTree, GetTurn, ListChats
from turnstream.turns.clock import iso_timestamp, now_microseconds
from turnstream.turns.new_turns import TurnRequest

HOUR = 3_600_000_000
DAY = 24 * HOUR


@pytest.fixture(params=[-HOUR, -30 * DAY, HOUR], ids=["an hour back", "a month back", "an hour ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Sets the process's clock when it is called."""
    real, real_ns = time.time, time.time_ns

    def set_clock() -> None:
        monkeypatch.setattr(time, "time", lambda: real() + request.param / 1e6)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + request.param * 1000)
        assert abs(now_microseconds() - real_ns() // 1000 - request.param) < 10_000_000

    return set_clock


async def ended_turn(world: World, chat_id: str, prev: str | None):
    feed = Feed()
    feed.end()
    request = TurnRequest(chat_id=chat_id, blocks=(Block(0, "text", "Why?"),), prev_turn_id=prev)
    started = await world.commands.start(OWNER, request, ForeignSource(feed.events()))
    await world.commands.ended(started.assistant_turn.id)
    return started.assistant_turn


async def test_chats_are_listed_in_the_order_of_their_changes(tmp_path: Path, wrong_clock):
    async with World(tmp_path / "turns.sqlite") as world:
        first, second = await world.chat(), await world.chat()
        before = now_microseconds()
        wrong_clock()
        third = await world.chat()

        async def listed() -> list[str]:
            return [chat.id for chat in await world.store.read(ListChats(owner=OWNER, limit=10))]

        assert await listed() == [third, second, first]
        await world.commands.chats.update(OWNER, second, title="renamed")
        assert await listed() == [second, third, first]
        await ended_turn(world, first, None)
        assert await listed() == [first, second, third]
        for chat in await world.store.read(ListChats(owner=OWNER, limit=10)):
            assert abs(chat.updated_at - before) < HOUR / 2, "it is the database's time"
            assert iso_timestamp(chat.updated_at)[:4] == iso_timestamp(before)[:4]


async def test_branches_are_in_the_order_of_their_making(tmp_path: Path, wrong_clock):
    async with World(tmp_path / "turns.sqlite") as world:
        chat_id = await world.chat()
        first = await ended_turn(world, chat_id, None)
        wrong_clock()
        second = await ended_turn(world, chat_id, first.id)
        alternative = await ended_turn(world, chat_id, first.id)
        turns = await world.store.read(ListTurns(owner=OWNER, chat_id=chat_id))
        answers = [turn.id for turn in turns if turn.role == "assistant"]
        assert answers == [first.id, second.id, alternative.id]
        assert [turn.role for turn in turns] == ["user", "assistant"] * 3
        assert sorted({turn.created_at for turn in turns}) == [turn.created_at for turn in turns][::2]
        tree = await world.store.read(ChatTree(chat_id=chat_id))
        assert tree.siblings(second.prev_turn_id or "") == [second.prev_turn_id, alternative.prev_turn_id]


async def test_a_turn_tells_the_time_that_its_row_has(tmp_path: Path, wrong_clock):
    wrong_clock()
    async with World(tmp_path / "turns.sqlite") as world:
        turn = await ended_turn(world, await world.chat(), None)
        stored = await world.store.read(GetTurn(owner=OWNER, turn_id=turn.id))
        assert stored.created_at == turn.created_at > 0
        client = await world.watched(turn.id)
        (start,) = [frame for frame in client.connection if frame.name == "turn_start"]
        assert start.data["timestamp"] == iso_timestamp(stored.created_at)
        user = await world.store.read(GetTurn(owner=OWNER, turn_id=stored.prev_turn_id or ""))
        assert user.completed_at == user.created_at == stored.created_at


class ClockOfDatabase(Query[int], frozen=True):
    """Return the database's time in whole seconds, read in another way."""

    def fetch(self, connection) -> int:
        return int(connection.execute(text("SELECT strftime('%s', 'now')")).scalar_one()) * 1_000_000


async def test_changes_within_a_moment_or_after_a_clock_was_set_back_go_on_upwards(tmp_path: Path):
    """The machine's clock may be set back too. No change is ordered before a change that its owner has
    seen."""
    async with World(tmp_path / "turns.sqlite") as world:
        now = await world.store.read(ClockOfDatabase())
        chat_id = await world.chat()
        times = [
            (await world.commands.chats.update(OWNER, chat_id, title=str(n))).updated_at for n in range(20)
        ]
        assert times == sorted(set(times))
        assert 0 <= times[0] - now < 60_000_000
        ahead = times[-1] + HOUR
        await world.store.write(UpdateChat(owner=OWNER, chat_id=chat_id, now=ahead))
        other = await world.commands.chats.create(OWNER)
        assert other.updated_at == ahead + 1
        elsewhere = await world.commands.chats.create("eve")
        assert elsewhere.updated_at < ahead, "each owner has an order of its own"
        assert await world.store.write(CreateChat(chat=elsewhere)) == elsewhere, "a time that is given stays"
