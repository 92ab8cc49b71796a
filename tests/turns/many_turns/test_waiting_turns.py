"""A stream of many turns while one of them waits for approvals, over a crash and a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.turns.many_turns.following import Events, ManyClient, read_all
from tests.turns.tools.asking import DONE, YES, decide, deleting, waiting


@pytest.mark.requirement("N8", "P1")
async def test_a_watcher_of_a_turn_that_waits_over_a_crash_resumes_from_any_event(tmp_path: Path) -> None:
    client = ManyClient()
    async with deleting(tmp_path) as world:
        events, chat_id = Events(world), await world.chat()
        watcher = await events.watch(client)
        await read_all(watcher, client)
        started = await world.ask("delete a and c", chat_id=chat_id)
        turn_id = started.assistant_turn.id
        await waiting(world, turn_id)
        await read_all(watcher, client)
        assert len(client.now.turns[turn_id].fold.approvals) == 2
        watcher.close()
        await world.crash()
    async with deleting(tmp_path, DONE) as world:
        events = Events(world)
        watcher = await events.watch(client)
        await read_all(watcher, client)
        first, second = await world.commands.approvals.pending(turn_id)
        await decide(world, first, YES)
        await read_all(watcher, client)
        await decide(world, second, YES)
        state = await world.ended(turn_id)
        await read_all(watcher, client)
        watcher.close()
        stored = [row.block for row in state.blocks]
        assert state.turn.status == "complete"
        assert client.now.turns[turn_id].blocks == stored
        for known in list(client.past):
            resumed = await events.catch_up(ManyClient(known.copy()))
            assert resumed.now.turns[turn_id].blocks == stored
            assert resumed.now.turns[turn_id].ended
        for seqs in client.now.seqs.values():
            assert seqs == sorted(set(seqs)), "no event comes twice"
