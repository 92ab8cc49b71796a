"""Clients that resend the whole conversation: it continues its stored chat, and is stored once."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

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
from tests.turns.world import OWNER, Feed, World
from turnstream.core.lifecycle import TurnStatus
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, MessageStop, TextDelta
from turnstream.errors import InvalidRequest, NotFound, TooLarge
from turnstream.model_loop.sources import ForeignSource
from turnstream.turns.conversations import MAX_CHARACTERS, MAX_MESSAGES, ResentConversation


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
    """Return the bytes of all texts and contents of blocks."""
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


async def test_the_longest_stored_path_is_continued(world: World):
    """For every kept part of a conversation, the path continues where both agree."""
    said = [user("one"), assistant("1"), user("two"), assistant("2"), user("three"), assistant("3")]
    first = await ResendingClient(world, "long", said).say("four")
    path = await path_of(world, first.assistant_turn.id)
    for kept in range(len(said) + 1):
        for tail in ([], [user("other"), assistant("else")], [assistant("else")]):
            messages = (*said[:kept], *tail)
            for chat_id in ("long", None):
                conversation = ResentConversation(messages=messages, new=text("new"), chat_id=chat_id)
                request = await world.commands.conversations.continue_from(OWNER, conversation)
                following = tail[0].role if tail else "user"
                # A user's turn follows an answer: the last question is sent again if its answer was dropped.
                end = kept - 1 if following == "user" and kept % 2 else kept
                assert request.prev_turn_id == (path[end - 1][0].id if end else None), (kept, tail)


async def test_only_paths_that_a_user_can_continue_are_looked_up_and_few_of_them(world: World):
    messages = tuple(message for n in range(2000) for message in (user(str(n)), assistant(str(n))))
    conversation = ResentConversation(messages=messages, new=text("new"), chat_id="import")
    request = await world.commands.conversations.continue_from(OWNER, conversation)
    started = await world.commands.send(OWNER, msgspec.structs.replace(request, model=MODEL))
    await world.ended(started.assistant_turn.id)
    assert rows_of(world, "turns") == 4002
    again = await world.commands.conversations.continue_from(OWNER, conversation)
    assert again.opening is not None
    assert again.opening.imported == ()
    assert started.user_turn is not None
    assert again.prev_turn_id == started.user_turn.prev_turn_id


async def test_an_answer_that_was_cut_off_counts_with_its_text(world: World):
    request = await world.commands.conversations.continue_from(
        OWNER, ResentConversation(new=text("one"), chat_id="cut")
    )
    feed = Feed()
    started = await world.commands.start(OWNER, request, ForeignSource(feed.events()))
    await feed.say(TextDelta(0, "half an ans"))
    await world.commands.interrupt(OWNER, started.assistant_turn.id)
    client = ResendingClient(world, "cut", [user("one"), assistant("half an ans")])
    second = await client.say("two")
    assert second.user_turn is not None
    assert second.user_turn.prev_turn_id == started.assistant_turn.id


async def test_a_turn_that_a_crash_cut_off_counts_with_what_was_kept(tmp_path: Path):
    async with World(tmp_path / "crash.sqlite") as world:
        feed = Feed()
        request = await world.commands.conversations.continue_from(OWNER, ResentConversation(new=text("one")))
        started = await world.commands.start(OWNER, request, ForeignSource(feed.events()))
        await feed.say(TextDelta(0, "kept"), ContentBlockStop(0), TextDelta(1, "lost"))
        await world.crash()
    async with World(tmp_path / "crash.sqlite") as world:
        assert world.recovered == 1
        second = await ResendingClient(world, None, [user("one"), assistant("kept")]).say("two")
        assert second.user_turn is not None
        assert second.user_turn.prev_turn_id == started.assistant_turn.id


async def test_a_tool_that_ran_here_is_not_needed_to_find_the_path(world: World):
    feed = Feed()
    request = await world.commands.conversations.continue_from(OWNER, ResentConversation(new=text("one")))
    started = await world.commands.start(OWNER, request, ForeignSource(feed.events()))
    call = {"tool_use_id": "c", "tool_name": "look_up", "input": {}}
    feed.put(
        TextDelta(0, "let me see: "),
        ContentBlockStop(0),
        ContentBlockStart(1, "tool_use", call),
        ContentBlockStop(1),
        ContentBlockStart(2, "tool_result", {"tool_use_id": "c", "content": "42"}),
        ContentBlockStop(2),
        TextDelta(3, "it is 42"),
        MessageStop("end_turn"),
    )
    feed.end()
    await world.ended(started.assistant_turn.id)
    second = await ResendingClient(world, None, [user("one"), assistant("let me see: it is 42")]).say("two")
    assert second.user_turn is not None
    assert second.user_turn.prev_turn_id == started.assistant_turn.id
