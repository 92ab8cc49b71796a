"""A stream of many turns that is cut at its start, and two announcements at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.turns.many_turns.following import Events, ManyClient, read_all
from tests.turns.world import Feed, World
from turnstream.core.owner_events.cursor import EventsCursor, TurnPosition, parse_events_cursor
from turnstream.core.stream_events import TextDelta
from turnstream.turns.owner_events import subscription


async def test_a_client_that_is_cut_before_it_has_all_running_turns_begins_again(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        events, feeds = Events(world), [Feed() for _ in range(3)]
        turns = [await world.start_foreign(feed.events()) for feed in feeds]
        client = await events.catch_up(ManyClient())
        names = [frame.name for frame in client.frames[:4]]
        assert names == ["events_start", "turn_started", "turn_started", "turn_started"]
        for place, known in enumerate(client.past[:4]):
            assert len(known.turns) == place
            resumed = await events.catch_up(ManyClient(known.copy()))
            assert [frame.name for frame in resumed.frames].count("events_start") == (place < 3)
            assert resumed.now.turns.keys() == {turn.turn.id for turn in turns}
            assert resumed.now.seqs == client.now.seqs
        for feed in feeds:
            feed.end()


async def test_a_cursor_from_before_a_restored_backup_loses_nothing_when_it_is_cut(tmp_path: Path) -> None:
    """The database has gone back in time, so the cursor is ahead of it until more happens."""
    async with World(tmp_path / "turns.sqlite") as world:
        events, feed = Events(world), Feed()
        turn = await world.start_foreign(feed.events())
        client = await events.catch_up(ManyClient())
        ahead = parse_events_cursor(client.now.cursor or "")
        assert ahead is not None
        lost = ManyClient(client.now.copy())
        lost.now.cursor = f"{ahead.scope:x}-{ahead.moment + 1:x}"
        watcher = await events.watch(lost)
        await read_all(watcher, lost)
        watcher.close()
        begun = lost.past[0]
        assert (lost.frames[0].name, begun.turns) == ("events_start", {})
        await world.chat()
        resumed = await events.catch_up(ManyClient(begun))
        assert resumed.now.turns.keys() == {turn.turn.id}
        feed.end()


async def test_a_turn_beyond_the_limit_waits_and_its_chat_is_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "MAX_TURNS", 1)
    async with World(tmp_path / "turns.sqlite") as world:
        events, client, chat_id = Events(world), ManyClient(), await world.chat()
        watcher = await events.watch(client)
        await read_all(watcher, client)
        other, first, second = await world.chat(), Feed(), Feed()
        one = await world.start_foreign(first.events(), chat_id=other)
        two = await world.start_foreign(second.events(), chat_id=chat_id)
        await first.say(TextDelta(0, "hello"))
        await read_all(watcher, client)
        cursor = parse_events_cursor(client.now.cursor or "")
        assert cursor is not None
        assert cursor.is_half
        assert set(client.now.turns) == {one.turn.id}
        halves = [known for known in client.past if "-1." in (known.cursor or "")]
        assert len(halves) > 1, "the chat is announced, and the first turn goes on"
        first.end()
        second.end()
        for executor in (one, two):
            await world.ended(executor.turn.id)
        for known in halves:
            resumed = await events.catch_up(ManyClient(known.copy()))
            assert set(resumed.now.turns) == {one.turn.id, two.turn.id}
        await world.commands.chats.delete("local", chat_id)
        gone = await events.catch_up(ManyClient(halves[-1].copy()))
        assert set(gone.now.chats) == {other}
        assert gone.frames[-1].name == "chat_deleted"
        watcher.close()


def test_a_half_moment_is_part_of_a_cursor() -> None:
    assert parse_events_cursor("a-b-1.1-2") == EventsCursor(10, 11, (TurnPosition(10, 2),), is_half=True)
    assert parse_events_cursor("a-b.1-2") == EventsCursor(10, 11, (TurnPosition(10, 2),))
    assert parse_events_cursor("a-b-2") is None
