"""Clients that resend the whole conversation: it is continued where it is stored, and stored once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

import msgspec
import pytest

from tests.turns.world import OWNER, World
from turnstream.core.blocks import Block, Message
from turnstream.core.lifecycle import TurnStatus
from turnstream.errors import InvalidRequest, NotFound, TooLarge
from turnstream.store.base import TurnRecord
from turnstream.turns.commands import StartedTurn
from turnstream.turns.conversations import MAX_CHARACTERS, MAX_MESSAGES, ResentConversation
from turnstream.turns.histories import read_history

MODEL = "sim/echo:pace=0"


def text(value: str) -> tuple[Block, ...]:
    return (Block(0, "text", value),)


def user(value: str) -> Message:
    return Message("user", text(value))


def assistant(value: str) -> Message:
    return Message("assistant", text(value))


class ResendingClient:
    """A client that keeps its conversation and sends all of it with each message."""

    def __init__(self, world: World, chat_id: str | None = None, messages: Sequence[Message] = ()) -> None:
        self.world = world
        self.chat_id = chat_id
        self.messages = list(messages)

    async def start(self, said: str) -> StartedTurn:
        conversation = ResentConversation(messages=tuple(self.messages), new=text(said), chat_id=self.chat_id)
        request = await self.world.commands.conversations.continue_from(OWNER, conversation)
        request = msgspec.structs.replace(request, model=MODEL)
        return await self.world.commands.send(OWNER, request)

    async def say(self, said: str) -> StartedTurn:
        started = await self.start(said)
        state = await self.world.ended(started.assistant_turn.id)
        answer = "".join(row.block.text_content or "" for row in state.blocks)
        assert state.turn.status == "complete"
        self.messages += [user(said), assistant(answer)]
        return started


async def path_of(world: World, turn_id: str) -> list[tuple[TurnRecord, str]]:
    path = await read_history(world.store, turn_id)
    return [(turn, "".join(block.text_content or "" for block in blocks)) for turn, blocks in path]


def rows_of(world: World, table: str) -> int:
    with sqlite3.connect(world.path) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM turnstream_{table}").fetchone()
    connection.close()
    return count


@pytest.mark.parametrize("chat_id", [None, "a chat / of mine ☃"])
async def test_a_growing_conversation_is_continued_in_one_chat(world: World, chat_id: str | None):
    client = ResendingClient(world, chat_id)
    started = [await client.say(f"question {number}") for number in range(4)]
    assert len({turn.assistant_turn.chat_id for turn in started}) == 1
    path = await path_of(world, started[-1].assistant_turn.id)
    assert [turn.id for turn, _ in path] == [
        turn.id for each in started for turn in (each.user_turn, each.assistant_turn) if turn is not None
    ]
    assert [(turn.role, said) for turn, said in path] == [
        (message.role, message.blocks[0].text_content) for message in client.messages
    ]
    assert rows_of(world, "turns") == 8
    assert rows_of(world, "chats") == 1


async def test_two_hundred_requests_store_each_message_once(world: World):
    client = ResendingClient(world, "growing")
    sizes: list[int] = []
    for number in range(200):
        await client.say(f"{number} {'word ' * 40}")
        sizes.append(stored_bytes(world))
    assert rows_of(world, "turns") == 400
    assert rows_of(world, "blocks") == 400
    assert rows_of(world, "chats") == 1
    first, second = sizes[99] - sizes[0], sizes[199] - sizes[100]
    assert second < 1.2 * first, (first, second)


def stored_bytes(world: World) -> int:
    """Bytes of all texts and contents of blocks."""
    with sqlite3.connect(world.path) as connection:
        query = "SELECT sum(length(text_content) + coalesce(length(content), 0)) FROM turnstream_blocks"
        (total,) = connection.execute(query).fetchone()
    connection.close()
    return total


async def test_an_unknown_history_is_stored_once(world: World):
    history = [user("one"), assistant("1"), user("two"), user("and more"), assistant("2")]
    client = ResendingClient(world, None, history)
    first = await client.say("three")
    path = await path_of(world, first.assistant_turn.id)
    assert [(turn.role, said, turn.imported) for turn, said in path] == [
        ("user", "one", True),
        ("assistant", "1", True),
        ("user", "twoand more", True),
        ("assistant", "2", True),
        ("user", "three", False),
        ("assistant", client.messages[-1].blocks[0].text_content, False),
    ]
    assert [turn.created_at for turn, _ in path[:4]] == sorted({turn.created_at for turn, _ in path[:4]})
    assert path[3][0].created_at < path[4][0].created_at
    second = await client.say("four")
    assert second.assistant_turn.chat_id == first.assistant_turn.chat_id
    assert rows_of(world, "turns") == 8
    other = await ResendingClient(world, None, [*history, user("four"), assistant("4")]).say("five")
    assert other.assistant_turn.chat_id == first.assistant_turn.chat_id
    assert rows_of(world, "turns") == 8 + 4
    assert [turn.id for turn, _ in (await path_of(world, other.assistant_turn.id))[:4]] == [
        turn.id for turn, _ in path[:4]
    ]


async def test_the_same_history_at_once_is_stored_once(world: World):
    history = [user("one"), assistant("1"), user("two"), assistant("2")]
    for chat_id in (None, "raced"):
        chats, turns = rows_of(world, "chats"), rows_of(world, "turns")
        clients = [ResendingClient(world, chat_id, [user(str(chat_id)), *history[1:]]) for _ in range(5)]
        conversations = [
            await client.world.commands.conversations.continue_from(
                OWNER,
                ResentConversation(messages=tuple(client.messages), new=text("go"), chat_id=chat_id),
            )
            for client in clients
        ]
        started = await asyncio.gather(
            *(
                world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
                for request in conversations
            )
        )
        for each in started:
            path = await path_of(world, each.assistant_turn.id)
            assert [said for _, said in path[:5]] == [str(chat_id), "1", "two", "2", "go"]
            assert path[0][0].chat_id == each.assistant_turn.chat_id
        assert rows_of(world, "chats") == chats + 1
        assert rows_of(world, "turns") == turns + 4 + 10
        for each in started:
            await world.ended(each.assistant_turn.id)


async def test_a_race_for_a_new_chat_makes_one_chat(world: World):
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(ResendingClient(world, "new").start(f"hello {number}")) for number in range(8)
        ]
    assert len({task.result().assistant_turn.chat_id for task in tasks}) == 1
    assert rows_of(world, "chats") == 1
    assert rows_of(world, "client_chats") == 1
    found = await world.commands.conversations.chat_of(OWNER, "new")
    assert found == tasks[0].result().assistant_turn.chat_id
    assert await world.commands.conversations.chat_of("another owner", "new") is None


async def test_without_a_history_each_conversation_is_a_new_chat(world: World):
    first = await ResendingClient(world).say("hi")
    second = await ResendingClient(world).say("hi")
    assert first.assistant_turn.chat_id != second.assistant_turn.chat_id


async def test_another_owner_s_conversation_is_not_found(world: World):
    client = ResendingClient(world)
    await client.say("hi")
    conversation = ResentConversation(messages=tuple(client.messages), new=text("more"))
    request = await world.commands.conversations.continue_from("another owner", conversation)
    assert request.prev_turn_id is None
    assert request.opening is not None
    assert len(request.opening.imported) == 2


async def test_an_edited_question_begins_a_branch_after_the_common_part(world: World):
    client = ResendingClient(world, "edited")
    first = await client.say("one")
    await client.say("two")
    client.messages = client.messages[:2]
    edited = await client.say("two, but better")
    assert edited.user_turn is not None
    assert edited.user_turn.prev_turn_id == first.assistant_turn.id
    assert rows_of(world, "turns") == 6


async def test_a_last_message_without_a_new_one_is_answered_again(world: World):
    client = ResendingClient(world, "again")
    first = await client.say("one")
    conversation = ResentConversation(messages=(user("one"),), chat_id="again")
    request = await world.commands.conversations.continue_from(OWNER, conversation)
    again = await world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
    assert again.user_turn is None
    assert first.user_turn is not None
    assert again.assistant_turn.prev_turn_id == first.user_turn.id
    assert rows_of(world, "turns") == 3
    new = ResentConversation(messages=(user("never asked"),), chat_id="again")
    request = await world.commands.conversations.continue_from(OWNER, new)
    asked = await world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
    assert asked.user_turn is not None
    for each in (again, asked):
        await world.ended(each.assistant_turn.id)


async def test_a_failed_answer_without_text_does_not_break_the_chain(world: World):
    request = await world.commands.conversations.continue_from(
        OWNER, ResentConversation(new=text("one"), chat_id="failing")
    )
    failing = msgspec.structs.replace(request, model="sim/error:pace=0")
    failed = await world.commands.send(OWNER, failing)
    state = await world.ended(failed.assistant_turn.id)
    ended: TurnStatus = state.turn.status
    assert (ended, state.blocks) == ("error", ())
    client = ResendingClient(world, "failing", [user("one")])
    second = await client.say("two")
    assert second.user_turn is not None
    assert second.user_turn.prev_turn_id == failed.assistant_turn.id
    third = await client.say("three")
    assert third.user_turn is not None
    assert third.user_turn.prev_turn_id == second.assistant_turn.id
    assert rows_of(world, "turns") == 6


async def test_nothing_is_stored_for_a_request_that_is_refused(world: World):
    conversation = ResentConversation(
        messages=(user("one"), assistant("1")), new=text("two"), chat_id="refused"
    )
    request = await world.commands.conversations.continue_from(OWNER, conversation)
    with pytest.raises(InvalidRequest):
        await world.commands.send(OWNER, msgspec.structs.replace(request, model="nowhere/none"))
    for table in ("chats", "turns", "blocks", "client_chats"):
        assert rows_of(world, table) == 0


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


async def test_a_conversation_that_is_too_large_is_refused(world: World):
    conversations = world.commands.conversations
    for messages in ((user("x"),) * MAX_MESSAGES, (user("x" * MAX_CHARACTERS),)):
        with pytest.raises(TooLarge) as refused:
            await conversations.continue_from(OWNER, ResentConversation(messages=messages, new=text("x")))
        assert refused.value.code == "conversation_too_large"
    with pytest.raises(InvalidRequest):
        await conversations.continue_from(OWNER, ResentConversation())


async def test_a_chat_that_was_deleted_meanwhile_is_not_found(world: World):
    client = ResendingClient(world, "gone")
    first = await client.say("one")
    conversation = ResentConversation(messages=tuple(client.messages), new=text("two"), chat_id="gone")
    request = await world.commands.conversations.continue_from(OWNER, conversation)
    await world.commands.chats.delete(OWNER, first.assistant_turn.chat_id)
    with pytest.raises(NotFound):
        await world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
    assert rows_of(world, "turns") == 0
