"""One connection for all turns of an owner or of a chat: its events, and where it resumes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.turns.many_turns.following import Events, ManyClient, ManyKnowledge, read_all
from tests.turns.world import SECONDS, Feed, World, ticks
from turnstream.core.stream_events import ContentBlockStop, TextDelta


def of(known: ManyKnowledge) -> tuple[Any, ...]:
    """Return the state of a client as a value. A cut client resumes after a whole frame."""
    return known.cursor, known.chats, known.seqs, known.announced, list(known.turns)


async def test_a_watcher_that_leaves_while_it_reads_is_not_served_any_more(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        events, chat_id = Events(world), await world.chat()
        subscription = await events.watch(ManyClient())
        assert await subscription.next()
        reading = asyncio.ensure_future(subscription.next())
        await ticks(1)
        assert not subscription.waiting, "it reads the announcements"
        subscription.close()
        async with asyncio.timeout(SECONDS):
            assert await reading is None
        await world.commands.chats.update("local", chat_id, title="unseen")


async def test_a_stream_ends_if_the_server_stops_while_it_reads(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        events, client = Events(world), ManyClient()
        await world.chat()
        subscription = await events.watch(client)
        client.receive(bytes(await subscription.next() or b""))
        reading = asyncio.ensure_future(subscription.next())
        await ticks(1)
        assert not subscription.waiting, "it reads the announcements"
        events.sources.changes.close()
        async with asyncio.timeout(SECONDS):
            client.receive(bytes(await reading or b""))
        assert client.now.ended == "draining"


async def test_a_watcher_sees_turns_that_begin_and_end(tmp_path: Path) -> None:
    async with World(tmp_path / "turns.sqlite") as world:
        events, client = Events(world), ManyClient()
        await world.chat()
        subscription = await events.watch(client)
        await read_all(subscription, client)
        assert [frame.name for frame in client.frames] == ["events_start"]
        chat_id = await world.chat()
        first, second = Feed(), Feed()
        one = await world.start_foreign(first.events(), chat_id=chat_id)
        two = await world.start_foreign(second.events(), chat_id=chat_id)
        for word in ("one", "two", "three"):
            await first.say(TextDelta(0, word))
            await second.say(TextDelta(0, word.upper()))
            await read_all(subscription, client)
        await first.say(ContentBlockStop(0))
        first.end()
        second.end()
        states = [await world.ended(executor.turn.id) for executor in (one, two)]
        await world.commands.chats.update("local", chat_id, title="numbers")
        await read_all(subscription, client)
        assert client.now.chats == {chat_id: "numbers"}
        for state in states:
            known = client.now.turns[state.turn.id]
            assert known.ended
            assert known.blocks == [row.block for row in state.blocks]
        states_at_frames = [of(known) for known in (ManyKnowledge(), *client.past)]
        for cut in range(len(client.data)):
            cut_off = ManyClient()
            cut_off.receive(client.data[:cut])
            assert of(cut_off.now) in states_at_frames, "no byte is in the middle of a state"
        for known in list(client.past):
            resumed = await events.catch_up(ManyClient(known.copy()))
            assert resumed.now.chats == client.now.chats
            assert {i: k.blocks for i, k in resumed.now.turns.items()} == {
                i: k.blocks for i, k in client.now.turns.items()
            }
            assert resumed.now.seqs == client.now.seqs
        await world.commands.chats.delete("local", chat_id)
        await read_all(subscription, client)
        assert client.now.chats == {}
        assert client.frames[-1].name == "chat_deleted"
        subscription.close()
