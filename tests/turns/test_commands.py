"""Commands of callers: idempotency, history, ownership, and refusals without an effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.store.reads import ListTurns
from tests.turns.world import OWNER, SECONDS, Feed, World, unknown_id
from turnstream.core.blocks import Block
from turnstream.core.stream_events import TextDelta
from turnstream.errors import AuthenticationFailed, Conflict, InvalidRequest, NotFound
from turnstream.turns.commands import TurnRequest

QUICK = "sim/echo:pace=0"


def asking(chat_id: str, text: str = "hello", **options: Any) -> TurnRequest:
    options.setdefault("model", QUICK)
    return TurnRequest(chat_id=chat_id, blocks=(Block(0, "text", text),), **options)


async def turns_of(world: World, chat_id: str) -> int:
    return len(await world.store.read(ListTurns(owner=OWNER, chat_id=chat_id)))


@pytest.mark.requirement("A1")
async def test_both_turns_and_the_executor_are_there_when_the_answer_is(world: World) -> None:
    chat_id = await world.chat()
    started = await world.commands.send(OWNER, asking(chat_id, model="sim/demo:first=60"))
    assert started.user_turn is not None
    user = await world.state(started.user_turn.id)
    assistant = await world.state(started.assistant_turn.id)
    assert (user.turn.status, user.turn.role) == ("complete", "user")
    assert (assistant.turn.status, assistant.turn.prev_turn_id) == ("pending", user.turn.id)
    assert [row.block.text_content for row in user.blocks] == ["hello"]
    assert not world.executor(assistant.turn.id).ended.is_set()


@pytest.mark.requirement("A1")
async def test_a_user_turn_can_be_watched_like_any_other(world: World) -> None:
    started = await world.ask("hello", model=QUICK)
    assert started.user_turn is not None
    client = await world.watched(started.user_turn.id)
    assert [frame.name for frame in client.frames] == ["turn_start", "block_catchup", "turn_complete"]
    assert client.frames[0].data["role"] == "user"


@pytest.mark.requirement("A1")
async def test_the_same_key_and_request_start_one_turn(world: World) -> None:
    chat_id = await world.chat()
    request = asking(chat_id, idempotency_key="k", fingerprint="f")
    first = await world.commands.send(OWNER, request)
    second = await world.commands.send(OWNER, request)
    assert not first.replayed
    assert second.replayed
    assert (second.user_turn, second.assistant_turn.id) == (first.user_turn, first.assistant_turn.id)
    assert second.user_blocks == first.user_blocks
    await world.ended(first.assistant_turn.id)
    third = await world.commands.send(OWNER, request)
    assert third.assistant_turn.status == "complete"
    assert await turns_of(world, chat_id) == 2


@pytest.mark.requirement("A1")
async def test_many_at_once_with_one_key_start_one_turn(world: World) -> None:
    chat_id = await world.chat()
    request = asking(chat_id, idempotency_key="k", fingerprint="f")
    started = await asyncio.gather(*(world.commands.send(OWNER, request) for _ in range(30)))
    assert len({one.assistant_turn.id for one in started}) == 1
    assert sum(not one.replayed for one in started) == 1
    state = await world.ended(started[0].assistant_turn.id)
    assert state.turn.status == "complete"
    assert await turns_of(world, chat_id) == 2
    async with asyncio.timeout(SECONDS):
        await world.registry._idle.wait()
    assert list(world.registry._ended) == [state.turn.id]


@pytest.mark.requirement("A1")
async def test_one_key_for_two_requests_is_a_conflict_at_once_and_later(world: World) -> None:
    chat_id = await world.chat()
    requests = [
        asking(chat_id, f"text {place % 2}", idempotency_key="k", fingerprint=f"f{place % 2}")
        for place in range(20)
    ]
    answers = await asyncio.gather(
        *(world.commands.send(OWNER, request) for request in requests), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 10
    assert {getattr(error, "code", error) for error in refused} == {"idempotency_mismatch"}
    assert await turns_of(world, chat_id) == 2
    with pytest.raises(Conflict):
        await world.commands.send(OWNER, asking(chat_id, idempotency_key="k", fingerprint="other"))


@pytest.mark.requirement("A1")
async def test_a_key_counts_within_its_chat(world: World) -> None:
    first = await world.ask("hello", model=QUICK, idempotency_key="k", fingerprint="f")
    second = await world.ask("hello", model=QUICK, idempotency_key="k", fingerprint="f")
    assert first.assistant_turn.id != second.assistant_turn.id


@pytest.mark.requirement("A1")
async def test_a_next_turn_inherits_model_system_and_params(world: World) -> None:
    chat_id = await world.chat()
    options: dict[str, Any] = {"system": "be brief", "params": {"max_tokens": 50}}
    first = await world.commands.send(OWNER, asking(chat_id, "one two three", **options))
    await world.ended(first.assistant_turn.id)
    second = await world.commands.send(
        OWNER, asking(chat_id, "four", model=None, prev_turn_id=first.assistant_turn.id)
    )
    turn = (await world.ended(second.assistant_turn.id)).turn
    assert (turn.model, turn.system, turn.params) == (QUICK, "be brief", {"max_tokens": 50})
    third = await world.commands.send(
        OWNER, asking(chat_id, "five", system="", params={}, prev_turn_id=second.assistant_turn.id)
    )
    turn = (await world.ended(third.assistant_turn.id)).turn
    assert (turn.system, turn.params) == ("", {})


@pytest.mark.requirement("P4", "J4")
async def test_the_model_is_sent_what_was_said_before_cut_off_or_not(world: World) -> None:
    """The simulator counts the words it is sent as input tokens."""
    chat_id = await world.chat()
    feed = Feed()
    executor = await world.start_foreign(
        feed.events(), chat_id=chat_id, blocks=(Block(0, "text", "one two three"),)
    )
    await feed.say(TextDelta(0, "four five"))
    await world.commands.interrupt(OWNER, executor.turn.id)
    next_turn = await world.commands.send(OWNER, asking(chat_id, "six", prev_turn_id=executor.turn.id))
    turn = (await world.ended(next_turn.assistant_turn.id)).turn
    assert (turn.status, turn.usage.input_tokens) == ("complete", 6)


@pytest.mark.requirement("A1")
async def test_answering_a_turn_that_is_still_written_is_a_conflict(world: World) -> None:
    chat_id = await world.chat()
    feed = Feed()
    executor = await world.start_foreign(feed.events(), chat_id=chat_id)
    before = await turns_of(world, chat_id)
    with pytest.raises(Conflict) as refused:
        await world.commands.send(OWNER, asking(chat_id, prev_turn_id=executor.turn.id))
    assert refused.value.code == "turn_active"
    assert await turns_of(world, chat_id) == before
    feed.end()


@pytest.mark.requirement("A1")
async def test_refusals_leave_nothing_behind(world: World) -> None:
    chat_id, other_chat = await world.chat(), await world.chat()
    foreign_chat = await world.chat("somebody else")
    elsewhere = await world.commands.send(OWNER, asking(other_chat))
    user_turn = elsewhere.user_turn
    assert user_turn is not None
    await world.ended(elsewhere.assistant_turn.id)
    refusals: list[tuple[TurnRequest, type[Exception]]] = [
        (asking(foreign_chat), NotFound),
        (asking(unknown_id()), NotFound),
        (asking(chat_id, prev_turn_id=unknown_id()), NotFound),
        (asking(chat_id, prev_turn_id=elsewhere.assistant_turn.id), NotFound),
        (asking(chat_id, model="nowhere/model"), InvalidRequest),
        (asking(chat_id, model="echo"), InvalidRequest),
        (asking(chat_id, model="anthropic/claude"), AuthenticationFailed),
        (TurnRequest(chat_id=chat_id), InvalidRequest),
        (asking(chat_id, " \n "), InvalidRequest),
        (asking(other_chat, prev_turn_id=user_turn.id), Conflict),
    ]
    for request, expected in refusals:
        with pytest.raises(expected):
            await world.commands.send(OWNER, request)
    assert await turns_of(world, chat_id) == 0
    assert await turns_of(world, other_chat) == 2
    assert world.registry.active_count == 0


@pytest.mark.requirement("A1")
async def test_another_owner_s_ids_are_not_found(world: World) -> None:
    started = await world.ask("hello", model=QUICK)
    turn_id, chat_id = started.assistant_turn.id, started.assistant_turn.chat_id
    await world.ended(turn_id)
    for asked in (
        world.commands.state("other", turn_id),
        world.commands.interrupt("other", turn_id),
        world.watching.subscribe("other", turn_id),
        world.commands.chats.delete("other", chat_id),
        world.commands.chats.update("other", chat_id, title="mine"),
        world.commands.send("other", asking(chat_id)),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_several_turns_may_follow_one(world: World) -> None:
    first = await world.ask("hello", model=QUICK)
    chat_id = first.assistant_turn.chat_id
    await world.ended(first.assistant_turn.id)
    branches = await asyncio.gather(
        *(
            world.commands.send(OWNER, asking(chat_id, text, prev_turn_id=first.assistant_turn.id))
            for text in ("a", "b")
        )
    )
    for branch, text in zip(branches, ("a", "b"), strict=True):
        state = await world.ended(branch.assistant_turn.id)
        assert [row.block.text_content for row in state.blocks] == [text]
