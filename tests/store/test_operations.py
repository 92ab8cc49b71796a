"""Each write of chats and new turns: its effect, its refusals, and the rows that it does not change."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.store.reads import AnnotationsAfter, ListTurns
from tests.store.rereading import blocks_of, reread
from tests.store.samples import (
    OWNER,
    STRANGER,
    append_journal,
    delete_chat,
    finish,
    make_block,
    make_chat,
    make_segment,
    make_turn,
    running_turn,
    save,
    stored_chat,
)
from turnstream.errors import Conflict, Fenced, NotFound
from turnstream.store.base import Annotation, TurnRecord
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.deleting import DeleteChat
from turnstream.store.operations.progress import MarkStreaming
from turnstream.store.operations.secrets import KeepSecret
from turnstream.store.operations.start import StartTurns
from turnstream.store.queries import AllBlocks, FindIdempotent, GetChat
from turnstream.store.sql import SqlStore

# -- chats
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("A1")
async def test_a_chat_is_made_renamed_and_deleted(store: SqlStore):
    chat = make_chat()
    assert await store.write(CreateChat(chat=chat)) == chat
    renamed = await store.write(UpdateChat(owner=OWNER, chat_id=chat.id, title="Another name", now=9))
    assert renamed == msgspec.structs.replace(chat, title="Another name", updated_at=9)
    marked = await store.write(
        UpdateChat(owner=OWNER, chat_id=chat.id, title=None, metadata={"a": [1]}, now=10)
    )
    assert (marked.title, marked.metadata, marked.updated_at) == (None, {"a": [1]}, 10)
    assert await store.read(GetChat(owner=OWNER, chat_id=chat.id)) == marked
    assert await delete_chat(store, chat) == []
    with pytest.raises(NotFound):
        await store.read(GetChat(owner=OWNER, chat_id=chat.id))


@pytest.mark.requirement("A1")
async def test_another_owner_finds_nothing_to_change(store: SqlStore):
    chat = await stored_chat(store)
    turn = await running_turn(store, chat)
    chat = await store.read(GetChat(owner=OWNER, chat_id=chat.id))
    stranger_chat = await stored_chat(store, STRANGER)
    follower = make_turn(stranger_chat, "assistant", turn)
    for operation in (
        UpdateChat(owner=STRANGER, chat_id=chat.id, title="mine", now=2),
        DeleteChat(owner=STRANGER, chat_id=chat.id),
        StartTurns(owner=STRANGER, user_turn=None, assistant_turn=make_turn(chat, "assistant")),
        StartTurns(owner=STRANGER, user_turn=None, assistant_turn=follower),
    ):
        with pytest.raises(NotFound):
            await store.write(operation)
    said: set[str] = set()
    for foreign in (turn.id, make_turn(chat, "assistant").id):  # another owner's, and one that is nowhere
        showing = UpdateChat(owner=STRANGER, chat_id=stranger_chat.id, active_turn_id=foreign, now=2)
        with pytest.raises(Conflict) as refused:
            await store.write(showing)
        said.add(str(refused.value))
    assert len(said) == 1
    assert await store.read(GetChat(owner=OWNER, chat_id=chat.id)) == chat
    assert len(await store.read(ListTurns(owner=OWNER, chat_id=chat.id))) == 2


async def test_deleting_a_chat_takes_everything_in_it(store: SqlStore):
    chat = await stored_chat(store)
    user, assistant = make_turn(chat, "user"), make_turn(chat, "assistant")
    other = await running_turn(store)
    await store.write(save(other, 0))
    await store.write(
        StartTurns(
            owner=OWNER,
            user_turn=user,
            assistant_turn=assistant,
            user_blocks=(make_block(user, 0),),
            idempotency_key="key",
            request_hash="hash",
        )
    )
    await store.write(save(assistant, 0))
    await store.write(append_journal(segments=(make_segment(assistant, 1, 0),)))
    await store.write(
        SaveAnnotations(
            turn_id=assistant.id,
            generation=assistant.generation,
            rows=(Annotation(assistant.id, 3, b'{"type":"notice"}'),),
        )
    )
    deleted = await delete_chat(store, chat)
    assert sorted(deleted) == sorted([user.id, assistant.id])
    for query in (
        AllBlocks(turn_id=user.id),
        AllBlocks(turn_id=assistant.id),
        Journal(turn_id=assistant.id),
        AnnotationsAfter(turn_id=assistant.id, seq=0, limit=10),
    ):
        assert await store.read(query) == []
    assert await store.read(FindIdempotent(owner=None, chat_id=chat.id, key="key")) is None
    assert len(await blocks_of(store, other)) == 1


async def test_an_executor_of_a_deleted_turn_writes_nothing_more(store: SqlStore):
    chat = await stored_chat(store)
    turn = await running_turn(store, chat)
    await delete_chat(store, chat)
    await store.write(append_journal(segments=(make_segment(turn, 0, 0),)))
    for operation in (save(turn, 0), finish(turn), finish(turn, "cancelled")):
        with pytest.raises(Fenced):
            await store.write(operation)
    assert await store.read(Journal(turn_id=turn.id)) == []


# -- the start of turns
# --------------------------------------------------------------------------------------------


@pytest.mark.requirement("A1")
async def test_turns_and_blocks_are_stored_as_they_were_given(store: SqlStore):
    chat = await stored_chat(store)
    user = make_turn(chat, "user")
    assistant = msgspec.structs.replace(
        make_turn(chat, "assistant", user, created_at=55),
        system="Be kind.",
        params={"temperature": 0.5, "stop": ["a"]},
        metadata={"who": "☃"},
    )
    blocks = (
        make_block(user, 0, "Look:"),
        make_block(user, 1, content={"media_type": "image/png", "data": "AA=="}),
    )
    started = await store.write(
        StartTurns(owner=OWNER, user_turn=user, assistant_turn=assistant, user_blocks=blocks)
    )
    assert (started.user_turn, started.assistant_turn, started.replayed) == (user, assistant, False)
    assert await reread(store, user) == user
    assert await reread(store, assistant) == assistant
    assert await blocks_of(store, user) == list(blocks)
    assert (await store.read(GetChat(owner=OWNER, chat_id=chat.id))).updated_at == 55


async def test_a_turn_follows_only_what_has_ended(store: SqlStore):
    chat = await stored_chat(store)
    running = await running_turn(store, chat)
    question = make_turn(chat, "user", running)
    start = StartTurns(owner=OWNER, user_turn=question, assistant_turn=make_turn(chat, "assistant", question))
    with pytest.raises(Conflict) as refused:
        await store.write(start)
    assert refused.value.code == "turn_active"
    await store.write(finish(running))
    assert not (await store.write(start)).replayed


async def test_a_user_turn_does_not_follow_a_user_turn_but_an_answer_may(store: SqlStore):
    chat = await stored_chat(store)
    answer = await running_turn(store, chat)
    turns = await store.read(ListTurns(owner=OWNER, chat_id=chat.id))
    user = turns[0]
    assert user.id == answer.prev_turn_id
    second = make_turn(chat, "user", user)
    with pytest.raises(Conflict) as refused:
        await store.write(
            StartTurns(owner=OWNER, user_turn=second, assistant_turn=make_turn(chat, "assistant", second))
        )
    assert refused.value.code == "invalid_prev_turn"
    sibling = make_turn(chat, "assistant", user)
    await store.write(StartTurns(owner=OWNER, user_turn=None, assistant_turn=sibling))
    assert (await reread(store, sibling)).prev_turn_id == user.id


@pytest.mark.parametrize("where", ["nowhere", "another chat"])
async def test_a_turn_follows_only_a_turn_of_its_chat(store: SqlStore, where: str):
    chat = await stored_chat(store)
    prev = make_turn(chat, "assistant") if where == "nowhere" else await running_turn(store)
    user = make_turn(chat, "user", prev)
    with pytest.raises(NotFound):
        await store.write(
            StartTurns(owner=OWNER, user_turn=user, assistant_turn=make_turn(chat, "assistant", user))
        )
    assert await store.read(ListTurns(owner=OWNER, chat_id=chat.id)) == []


async def test_a_used_key_gives_the_turns_of_its_first_use_as_they_are_now(store: SqlStore):
    chat = await stored_chat(store)
    first = (make_turn(chat, "user"), make_turn(chat, "assistant"))
    again = (make_turn(chat, "user"), make_turn(chat, "assistant"))

    def start(turns: tuple[TurnRecord, TurnRecord], request_hash: str) -> StartTurns:
        return StartTurns(
            owner=OWNER,
            user_turn=turns[0],
            assistant_turn=turns[1],
            idempotency_key="key",
            request_hash=request_hash,
        )

    assert not (await store.write(start(first, "hash"))).replayed
    await store.write(MarkStreaming(turn_id=first[1].id, generation=first[1].generation, now=8))
    repeated = await store.write(start(again, "hash"))
    assert repeated.replayed
    assert repeated.user_turn == first[0]
    assert repeated.assistant_turn == msgspec.structs.replace(first[1], status="streaming", started_at=8)
    with pytest.raises(Conflict) as refused:
        await store.write(start(again, "other"))
    assert refused.value.code == "idempotency_mismatch"
    assert len(await store.read(ListTurns(owner=OWNER, chat_id=chat.id))) == 2
    found = await store.read(FindIdempotent(owner=OWNER, chat_id=chat.id, key="key"))
    assert found == ("hash", first[0].id, first[1].id)


async def test_one_key_raced_begins_one_pair_of_turns(store: SqlStore):
    chat = await stored_chat(store)
    starts = [
        StartTurns(
            owner=OWNER,
            user_turn=make_turn(chat, "user"),
            assistant_turn=make_turn(chat, "assistant"),
            idempotency_key="key",
            request_hash="hash",
        )
        for _ in range(20)
    ]
    answers = await asyncio.gather(*(store.write(start) for start in starts))
    assert [answer.replayed for answer in answers].count(False) == 1
    assert len({answer.assistant_turn.id for answer in answers}) == 1
    assert len(await store.read(ListTurns(owner=OWNER, chat_id=chat.id))) == 2


async def test_a_secret_is_made_once(store: SqlStore) -> None:
    first = await store.write(KeepSecret(name="origins", value="one"))
    assert await store.write(KeepSecret(name="origins", value="two")) == first == "one"
    assert await store.write(KeepSecret(name="others", value="two")) == "two"
