"""What each write does, refuses, and leaves alone."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from tests.store.samples import (
    OWNER,
    STRANGER,
    append_journal,
    finish,
    make_block,
    make_chat,
    make_segment,
    make_turn,
    pending_turn,
    running_turn,
    save,
    stored_chat,
)
from turnstream.core.blocks import Block
from turnstream.core.cursor import next_generation_seq
from turnstream.core.identifiers import new_id
from turnstream.core.usage import StepUsage, Usage
from turnstream.errors import Conflict, Fenced, NotFound, StoreError
from turnstream.store.base import Annotation, BlockRecord, OutcomeRecord, TurnRecord
from turnstream.store.journal.queries import Journal
from turnstream.store.operations import (
    CreateChat,
    DeleteChat,
    MarkStreaming,
    SaveAnnotations,
    SaveBlock,
    StartTurns,
    TakeBack,
    TakeOver,
    UpdateChat,
)
from turnstream.store.queries import (
    AllBlocks,
    AnnotationsAfter,
    FindIdempotent,
    GetChat,
    GetTurn,
    LastSeq,
    ListTurns,
)
from turnstream.store.sql import SqlStore


async def reread(store: SqlStore, turn: TurnRecord) -> TurnRecord:
    return await store.read(GetTurn(owner=None, turn_id=turn.id))


async def blocks_of(store: SqlStore, turn: TurnRecord) -> list[BlockRecord]:
    return await store.read(AllBlocks(turn_id=turn.id))


# -- chats ---------------------------------------------------------------------------------------------------------


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
    assert await store.write(DeleteChat(owner=OWNER, chat_id=chat.id)) == []
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
    deleted = await store.write(DeleteChat(owner=OWNER, chat_id=chat.id))
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
    await store.write(DeleteChat(owner=OWNER, chat_id=chat.id))
    await store.write(append_journal(segments=(make_segment(turn, 0, 0),)))
    for operation in (save(turn, 0), finish(turn), finish(turn, "cancelled")):
        with pytest.raises(Fenced):
            await store.write(operation)
    assert await store.read(Journal(turn_id=turn.id)) == []


# -- the start of turns --------------------------------------------------------------------------------------------


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


# -- content -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("B1")
async def test_a_block_is_stored_once_and_its_journal_counts_no_more(store: SqlStore):
    turn = await running_turn(store)
    await store.write(append_journal(segments=(make_segment(turn, 0, 0), make_segment(turn, 0, 1))))
    await store.write(append_journal(segments=(make_segment(turn, 1, 0),)))
    first = save(turn, 0, "the block")
    await store.write(first)
    await store.write(save(turn, 0, "the same block, said again"))
    assert await blocks_of(store, turn) == [first.row]
    assert [segment.sequence for segment in await store.read(Journal(turn_id=turn.id))] == [1]


async def test_blocks_of_one_group_are_each_answered_for_themselves(store: SqlStore):
    mine, ended = await running_turn(store), await running_turn(store)
    await store.write(finish(ended))
    stale = msgspec.structs.replace(mine, generation=mine.generation + 1)
    await store.write(append_journal(segments=(make_segment(mine, 7, 0),)))
    operations = [save(mine, 0), save(ended, 0), save(stale, 7), save(mine, 1), save(mine, 0), save(mine, 2)]
    answers = await asyncio.gather(*map(store.write, operations), return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        type(None),
        Fenced,
        Fenced,
        type(None),
        type(None),
        type(None),
    ]
    assert [row.block.sequence for row in await blocks_of(store, mine)] == [0, 1, 2]
    assert await blocks_of(store, ended) == []
    assert len(await store.read(Journal(turn_id=mine.id))) == 1, (
        "a fenced write changed its successor's journal"
    )


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
async def test_any_number_of_blocks_is_stored_in_one_group(store: SqlStore, count: int):
    turn = await running_turn(store)
    operations = [save(turn, sequence) for sequence in range(count)]
    await store.write(
        append_journal(segments=tuple(make_segment(turn, number, 0) for number in range(count)))
    )
    assert len(await store.read(Journal(turn_id=turn.id))) == count
    await asyncio.gather(*map(store.write, operations))
    assert await blocks_of(store, turn) == [operation.row for operation in operations]
    assert await store.read(Journal(turn_id=turn.id)) == []


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("nul \0 inside", "nul \0 inside"),
        ("👩‍👩‍👧 \u2028 \r\n", "👩‍👩‍👧 \u2028 \r\n"),
        ("half \ud83d", "half \ufffd"),
        ("other half \ude00 here", "other half \ufffd here"),
    ],
)
async def test_any_text_can_be_stored(store: SqlStore, text: str, stored: str):
    turn = await running_turn(store)
    row = BlockRecord(new_id(), turn.id, Block(0, "text", text, {"said": text}), 1, 2, 3)
    await store.write(SaveBlock(turn_id=turn.id, generation=turn.generation, row=row))
    segment = make_segment(turn, 1, 0, text)
    await store.write(append_journal(segments=(msgspec.structs.replace(segment, content={text: text}),)))
    (journalled,) = await store.read(Journal(turn_id=turn.id))
    assert (journalled.text, journalled.content) == (stored, {stored: stored})
    partial = msgspec.structs.replace(row, block=Block(2, "text", text, {text: [text]}, partial=True))
    await store.write(finish(turn, "error", error_message=text, blocks=(partial,)))
    blocks = [row.block for row in await blocks_of(store, turn)]
    assert blocks == [
        Block(0, "text", stored, {"said": stored}),
        Block(2, "text", stored, {stored: [stored]}, partial=True),
    ]
    assert (await reread(store, turn)).error_message == stored


@pytest.mark.parametrize(
    "content", [{}, {"input": {"big": 2**80, "small": -(2**70), "x": 1.5}}, {"a": [None, True, {"b": []}]}]
)
async def test_content_comes_back_as_it_was(store: SqlStore, content: dict[str, Any]):
    turn = await running_turn(store)
    row = BlockRecord(new_id(), turn.id, Block(0, "tool_use", None, content), 1, 2, 3)
    await store.write(SaveBlock(turn_id=turn.id, generation=turn.generation, row=row))
    assert await blocks_of(store, turn) == [row]


async def test_annotations_are_kept_once_and_fenced(store: SqlStore):
    turn = await running_turn(store)
    rows = (Annotation(turn.id, 2, '{"type":"notice","message":"☃"}'.encode()), Annotation(turn.id, 5, b"{}"))
    keep = SaveAnnotations(turn_id=turn.id, generation=turn.generation, rows=rows)
    await store.write(keep)
    await store.write(keep)
    assert await store.read(AnnotationsAfter(turn_id=turn.id, seq=0, limit=10)) == list(rows)
    with pytest.raises(Fenced):
        await store.write(msgspec.structs.replace(keep, generation=turn.generation + 1))


async def test_the_journal_keeps_nothing_of_what_is_stored_or_over(store: SqlStore):
    open_turn, ended = await running_turn(store), await running_turn(store)
    await store.write(save(open_turn, 0))
    await store.write(finish(ended))
    late = (make_segment(open_turn, 0, 0), make_segment(ended, 0, 0), make_segment(open_turn, 1, 0))
    await store.write(append_journal(segments=late))
    assert await store.read(Journal(turn_id=open_turn.id)) == [late[2]]
    assert await store.read(Journal(turn_id=ended.id)) == []
    await store.write(append_journal(segments=()))


@pytest.mark.requirement("J4", "D3")
async def test_blocks_are_taken_back_once_with_what_the_journal_holds_of_them(store: SqlStore):
    """A write whose answer is lost is made again."""
    turn = await running_turn(store)
    for sequence in (0, 1):
        await store.write(save(turn, sequence))
    await store.write(append_journal(segments=(make_segment(turn, 2, 0),)))
    back = TakeBack(turn_id=turn.id, generation=turn.generation, index=1, seq=1000)
    await store.write(back)
    await store.write(back)
    assert [row.block.sequence for row in await blocks_of(store, turn)] == [0]
    assert await store.read(Journal(turn_id=turn.id)) == []
    assert (await reread(store, turn)).resets == ((1000, 1),)
    assert await store.read(LastSeq(turn_id=turn.id)) == 1000, "its number is never given again"
    await store.write(msgspec.structs.replace(back, index=0, seq=2000))
    assert (await reread(store, turn)).resets == ((1000, 1), (2000, 0))
    with pytest.raises(Fenced):
        await store.write(msgspec.structs.replace(back, generation=turn.generation + 1))


# -- the life of a turn --------------------------------------------------------------------------------------------


@pytest.mark.requirement("D1")
async def test_a_turn_lives_from_pending_to_its_end(store: SqlStore):
    turn = await pending_turn(store)
    mark = MarkStreaming(turn_id=turn.id, generation=turn.generation, now=2)
    await store.write(mark)
    await store.write(msgspec.structs.replace(mark, now=3))
    assert (await reread(store, turn)).started_at == 2
    partial = make_block(turn, 1, "cut", partial=True)
    await store.write(append_journal(segments=(make_segment(turn, 1, 0),)))
    assert await store.write(finish(turn, "error", blocks=(partial,), model="sim/other"))
    assert await reread(store, turn) == msgspec.structs.replace(
        turn,
        status="error",
        model="sim/other",
        last_seq=99,
        error_code="api_error",
        error_message="the provider failed",
        usage=Usage(45, 234),
        started_at=2,
        completed_at=77,
    )
    assert await blocks_of(store, turn) == [partial]
    assert await store.read(Journal(turn_id=turn.id)) == []
    with pytest.raises(Fenced):
        await store.write(mark)


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("status", ["error", "cancelled"])
async def test_a_pending_turn_may_fail_or_be_cancelled(store: SqlStore, status: Any):
    turn = await pending_turn(store)
    assert await store.write(finish(turn, status))
    assert (await reread(store, turn)).status == status


@pytest.mark.requirement("D1", "P5")
async def test_what_never_began_cannot_have_succeeded(store: SqlStore):
    turn = await pending_turn(store)
    with pytest.raises(StoreError, match="cannot become complete from pending"):
        await store.write(finish(turn, "complete", blocks=(make_block(turn, 0),)))
    assert await reread(store, turn) == turn
    assert await blocks_of(store, turn) == []


@pytest.mark.requirement("D1")
async def test_of_several_ends_one_wins_and_stays(store: SqlStore):
    orders = list(itertools.permutations(("complete", "cancelled", "error")))
    for order in orders * 5:
        turn = await running_turn(store)
        ends = [
            finish(turn, status, blocks=(make_block(turn, 0, status, partial=True),), last_seq=number)
            for number, status in enumerate(order)
        ]
        won = await asyncio.gather(*map(store.write, ends))
        assert won.count(True) == 1
        ended = await reread(store, turn)
        winner = ends[won.index(True)]
        assert (ended.status, ended.last_seq) == (winner.outcome.status, winner.outcome.last_seq)
        assert await blocks_of(store, turn) == list(winner.blocks)
        assert not any(await asyncio.gather(*map(store.write, ends)))
        with pytest.raises(Fenced):
            await store.write(save(turn, 3))
        assert await reread(store, turn) == ended


async def test_an_executor_of_an_older_generation_is_fenced(store: SqlStore):
    turn = await running_turn(store)
    stale = msgspec.structs.replace(turn, generation=turn.generation - 1)
    for operation in (
        save(stale, 0),
        finish(stale),
        MarkStreaming(turn_id=stale.id, generation=stale.generation, now=4),
        SaveAnnotations(
            turn_id=stale.id, generation=stale.generation, rows=(Annotation(stale.id, 1, b"{}"),)
        ),
    ):
        with pytest.raises(Fenced):
            await store.write(operation)
    assert (await reread(store, turn)).status == "streaming"
    assert await store.read(LastSeq(turn_id=turn.id)) == 0


# -- recovery ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("D5")
async def test_a_takeover_ends_the_turn_raises_its_generation_and_keeps_the_fence(store: SqlStore):
    turn = await running_turn(store)
    await store.write(save(turn, 0))
    await store.write(append_journal(segments=(make_segment(turn, 1, 0),)))
    seq = next_generation_seq(12)
    rescued = make_block(turn, 1, "piece", partial=True)
    take_over = TakeOver(
        turn_id=turn.id,
        expected_generation=turn.generation,
        generation=turn.generation + 1,
        fence_seq=12,
        blocks=(rescued,),
        outcome=OutcomeRecord(
            status="error",
            error_code="executor_lost",
            error_message="the server was restarted",
            last_seq=seq,
            completed_at=88,
        ),
    )
    assert await store.write(take_over)
    ended = await reread(store, turn)
    assert ended.fences == ((turn.generation, 12),)
    assert (ended.status, ended.generation, ended.last_seq) == ("error", turn.generation + 1, seq)
    assert [row.block.sequence for row in await blocks_of(store, turn)] == [0, 1]
    assert await store.read(Journal(turn_id=turn.id)) == []
    assert not await store.write(take_over)
    assert not await store.write(finish(turn))
    with pytest.raises(Fenced):
        await store.write(save(turn, 2))
    assert await reread(store, turn) == ended


async def test_a_takeover_that_comes_second_is_fenced(store: SqlStore):
    turn = await running_turn(store)
    take_over = TakeOver(
        turn_id=turn.id,
        expected_generation=turn.generation + 1,
        generation=turn.generation + 2,
        fence_seq=1,
        blocks=(make_block(turn, 0),),
        outcome=OutcomeRecord(status="error", last_seq=5, completed_at=6),
    )
    with pytest.raises(Fenced):
        await store.write(take_over)
    assert await reread(store, turn) == msgspec.structs.replace(turn, status="streaming", started_at=2)
    assert await blocks_of(store, turn) == []


@pytest.mark.requirement("I2", "I3")
async def test_the_cost_and_the_steps_of_a_turn_are_stored_with_its_end(store: SqlStore):
    turn = await running_turn(store)
    steps = (
        StepUsage(0, "sim/demo", Usage(45, 12, cache_read_tokens=3), "0.000315"),
        StepUsage(1, "sim/demo", Usage(50, 1), estimated=True),
    )
    end = finish(turn, "cancelled", cost="0.000315", cost_estimated=True, steps=steps)
    assert await store.write(end)
    stored = await reread(store, turn)
    assert (stored.cost, stored.cost_estimated, stored.steps) == ("0.000315", True, steps)


async def test_a_turn_without_a_cost_has_none(store: SqlStore):
    turn = await running_turn(store)
    assert await store.write(finish(turn))
    stored = await reread(store, turn)
    assert (stored.cost, stored.cost_estimated, stored.steps) == (None, False, ())


async def test_a_turn_may_be_made_with_its_cost(store: SqlStore):
    chat = await stored_chat(store)
    steps = (StepUsage(0, None, Usage(1, 2)),)
    turn = msgspec.structs.replace(
        make_turn(chat, "assistant"), status="complete", cost="1.500000", cost_estimated=True, steps=steps
    )
    await store.write(StartTurns(owner=chat.owner, user_turn=None, assistant_turn=turn, user_blocks=()))
    assert await reread(store, turn) == turn


async def test_the_store_measures_how_long_it_takes(store: SqlStore):
    writes, reads = store.measures.writes.cumulative()[-1][1], store.measures.reads.cumulative()[-1][1]
    turn = await running_turn(store)
    with pytest.raises(NotFound):
        await store.read(GetTurn(owner=STRANGER, turn_id=turn.id))
    await reread(store, turn)
    assert store.measures.writes.cumulative()[-1][1] == writes + 3
    assert store.measures.reads.cumulative()[-1][1] == reads + 2
    assert 0 < store.measures.writes.total < 10
    assert (store.measures.failed_writes, store.measures.failed_reads) == (0, 0)
