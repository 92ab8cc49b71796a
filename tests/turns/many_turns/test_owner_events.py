"""One connection for all turns of an owner or of a chat: what it brings, and where it resumes."""

from __future__ import annotations

from pathlib import Path

from tests.turns.many_turns.following import Events, ManyClient, read_all
from tests.turns.world import Feed, World
from turnstream.core.stream_events import ContentBlockStop, TextDelta


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
        for known in list(client.past):
            if known.cursor is None:
                continue
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
