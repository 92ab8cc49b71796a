"""A database that loses the answer to each COMMIT: every write is applied twice, and nothing shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.turnlog.watching import Client
from tests.turns.tools.asking import NO, YES, Deleting, decide, deleting, names_of, waiting
from tests.turns.world import OWNER, SECONDS, World
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound
from turnstream.store.agent_rows import CreateAgentConversation, ListAgentConversations
from turnstream.store.base import SET_BY_STORE, ChatRecord, Operation


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with deleting(tmp_path, files=Deleting()) as world:
        write = world.store.write

        async def write_twice(operation: Operation[Any]) -> Any:
            await write(operation)
            return await write(operation)

        world.store.write = write_twice
        yield world


@pytest.mark.requirement("Q7", "G7")
async def test_a_turn_that_waits_for_approvals_continues_and_shows_each_event_once(world: World):
    turn_id = (await world.ask("go")).assistant_turn.id
    watcher = Client()
    watching = asyncio.create_task(world.watched(turn_id, watcher))
    state = await waiting(world, turn_id)
    for approval, given in zip(state.approvals, (YES, NO), strict=True):
        await decide(world, approval, given)
    async with asyncio.timeout(SECONDS):
        await watching
    names = names_of(watcher)
    assert names.count("approval_request") == names.count("approval_response") == 2
    assert names[-1] == "turn_complete"
    assert watcher.now.blocks == [row.block for row in await world.stored(turn_id)]


@pytest.mark.requirement("Q7")
@pytest.mark.parametrize("what", ["chat", "turn"])
async def test_a_chat_and_its_only_turn_are_deleted(world: World, what: str):
    chats, chat = world.commands.chats, await world.chat()
    turn_id = (await world.ask("go", chat_id=chat, tools=())).assistant_turn.id
    await world.ended(turn_id)
    if what == "chat":
        await chats.delete(OWNER, chat)
    else:
        await chats.delete_turn(OWNER, turn_id)
    with pytest.raises(NotFound):
        await chats.all_turns(OWNER, chat)


@pytest.mark.requirement("Q7")
async def test_a_conversation_of_the_staged_agent_is_made_once(world: World):
    chat = ChatRecord(new_id(), OWNER, None, {}, SET_BY_STORE, SET_BY_STORE)
    made = await world.store.write(CreateAgentConversation(chat=chat, page_name="page"))
    found, total = await world.store.read(ListAgentConversations(owner=OWNER, limit=10))
    assert (found, total) == ([made], 1)
