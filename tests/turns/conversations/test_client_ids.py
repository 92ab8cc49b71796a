"""Ids that clients give to chats, messages and runs."""

from __future__ import annotations

import msgspec
import pytest

from tests.turns.conversations.resending import (
    MODEL,
    ResendingClient,
    assistant,
    path_of,
    rows_of,
    text,
    user,
)
from tests.turns.world import OWNER, World
from turnstream.errors import InvalidRequest
from turnstream.turns.conversations import ResentConversation


async def test_a_deleted_chat_frees_the_client_s_id(world: World):
    client = ResendingClient(world, "reused")
    first = await client.say("one")
    await world.commands.chats.delete(OWNER, first.assistant_turn.chat_id)
    assert await world.commands.conversations.chat_of(OWNER, "reused") is None
    for table in ("client_chats", "client_turns", "turns"):
        assert rows_of(world, table) == 0
    second = await client.say("two")
    assert second.assistant_turn.chat_id != first.assistant_turn.chat_id
    assert rows_of(world, "turns") == 4


async def test_ids_of_messages_and_runs_lead_to_their_turns(world: World):
    conversations = world.commands.conversations
    conversation = ResentConversation(
        messages=(user("one"), assistant("1")),
        message_ids=("m1", None),
        new=text("two"),
        chat_id="named",
        new_message_id="m2",
        run_id="m2",
    )
    request = await conversations.continue_from(OWNER, conversation)
    started = await world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
    await world.ended(started.assistant_turn.id)
    chat_id = started.assistant_turn.chat_id
    assert started.user_turn is not None
    path = await path_of(world, started.assistant_turn.id)
    for chat in (chat_id, None):
        assert await conversations.turn_of(OWNER, chat, "m1") == path[0][0].id
        assert await conversations.turn_of(OWNER, chat, "m2") == started.user_turn.id
        assert await conversations.turn_of(OWNER, chat, "m2", "run") == started.assistant_turn.id
        assert await conversations.turn_of(OWNER, chat, started.user_turn.id) == started.user_turn.id
        assert await conversations.turn_of(OWNER, chat, "m3") is None
        assert await conversations.turn_of("another owner", chat, "m1") is None
        assert await conversations.turn_of("another owner", chat, started.user_turn.id) is None
    other = await world.chat()
    assert await conversations.turn_of(OWNER, other, "m1") is None
    assert await conversations.turn_of(OWNER, other, started.user_turn.id) is None
    assert await conversations.chat_of(OWNER, chat_id) == chat_id


@pytest.mark.parametrize("client_id", ["", "x" * 256, "a\0b", "a\nb", "\x7f", "\ud800"])
async def test_ids_that_cannot_be_kept_are_refused(world: World, client_id: str):
    conversations = world.commands.conversations
    for conversation in (
        ResentConversation(new=text("one"), chat_id=client_id),
        ResentConversation(new=text("one"), new_message_id=client_id),
        ResentConversation(new=text("one"), run_id=client_id),
        ResentConversation(messages=(user("one"),), message_ids=(client_id,)),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await conversations.continue_from(OWNER, conversation)
        assert refused.value.code == "invalid_client_id"
    for reading in (conversations.chat_of(OWNER, client_id), conversations.turn_of(OWNER, None, client_id)):
        with pytest.raises(InvalidRequest):
            await reading


@pytest.mark.parametrize("client_id", ["x" * 255, "ü☃😀 / ?#", "'; --", "1"])
async def test_any_other_id_is_kept(world: World, client_id: str):
    started = await ResendingClient(world, client_id).say("hi")
    assert await world.commands.conversations.chat_of(OWNER, client_id) == started.assistant_turn.chat_id
