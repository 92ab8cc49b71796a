"""Each read: its result, and the result for another owner."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, text

from tests.store.reads import AnnotationsAfter, BlocksAfter, ListTurns
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
from turnstream.core.identifiers import new_id
from turnstream.errors import NotFound
from turnstream.store.base import Annotation, BlockRecord, ChatRecord, Query, TurnRecord
from turnstream.store.journal.operations import TrimJournal
from turnstream.store.journal.queries import Journal, Journals
from turnstream.store.operations.chats import CreateChat
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.start import StartTurns
from turnstream.store.portions import HistoryBeginning
from turnstream.store.queries import (
    AllBlocks,
    FindIdempotent,
    GetChat,
    GetTurn,
    LastSeq,
    ListChats,
    UnfinishedTurns,
)
from turnstream.store.sql import SqlStore
from turnstream.turns.histories import PORTION, read_history

# -- owners
# --------------------------------------------------------------------------------------------------------


async def test_another_owner_sees_nothing(store: SqlStore):
    chat = await stored_chat(store)
    turn = await pending_turn(store, chat)
    start = StartTurns(
        owner=OWNER,
        user_turn=None,
        assistant_turn=make_turn(chat, "assistant"),
        idempotency_key="key",
        request_hash="hash",
    )
    await store.write(start)
    for query in (
        GetChat(owner=STRANGER, chat_id=chat.id),
        GetTurn(owner=STRANGER, turn_id=turn.id),
        ListTurns(owner=STRANGER, chat_id=chat.id),
    ):
        with pytest.raises(NotFound) as foreign:
            await store.read(query)
        unknown = {"chat_id": new_id()} if not isinstance(query, GetTurn) else {"turn_id": new_id()}
        with pytest.raises(NotFound) as missing:
            await store.read(msgspec.structs.replace(query, **unknown))
        assert str(foreign.value) == str(missing.value), "the answer tells that it exists"
        assert await store.read(msgspec.structs.replace(query, owner=OWNER))
        assert await store.read(msgspec.structs.replace(query, owner=None))
    assert await store.read(ListChats(owner=STRANGER, limit=10)) == []
    find = FindIdempotent(owner=STRANGER, chat_id=chat.id, key="key")
    assert await store.read(find) is None
    found = ("hash", None, start.assistant_turn.id)
    assert await store.read(msgspec.structs.replace(find, owner=OWNER)) == found


# -- lists
# ---------------------------------------------------------------------------------------------------------


async def test_chats_come_newest_first_and_in_pages(store: SqlStore):
    made = [make_chat(updated_at=number // 3) for number in range(10)]
    for chat in [*made, make_chat(STRANGER)]:
        await store.write(CreateChat(chat=chat))
    expected = sorted(made, key=lambda chat: (chat.updated_at, chat.id), reverse=True)
    pages: list[ChatRecord] = []
    before: tuple[int, str] | None = None
    while page := await store.read(ListChats(owner=OWNER, limit=3, before=before)):
        assert len(page) <= 3
        pages.extend(page)
        before = (page[-1].updated_at, page[-1].id)
    assert pages == expected
    assert len(await store.read(ListChats(owner=None, limit=100))) == 11


async def test_turns_come_in_the_order_of_their_making_with_all_branches(store: SqlStore):
    chat = await stored_chat(store)
    first = make_turn(chat, "user", created_at=5)
    answer = make_turn(chat, "assistant", first, created_at=5)
    sibling = make_turn(chat, "assistant", first, created_at=6)
    await store.write(StartTurns(owner=OWNER, user_turn=first, assistant_turn=answer))
    await store.write(StartTurns(owner=OWNER, user_turn=None, assistant_turn=sibling))
    assert await store.read(ListTurns(owner=OWNER, chat_id=chat.id)) == [first, answer, sibling]


async def test_unfinished_turns_are_the_assistants_that_have_not_ended(store: SqlStore):
    pending, running, ended = [
        await pending_turn(store),
        await running_turn(store),
        await running_turn(store),
    ]
    await store.write(finish(ended))
    unfinished = await store.read(UnfinishedTurns())
    assert set(unfinished) == {pending.id, running.id}


async def test_looking_for_unfinished_turns_reads_only_them(sqlite_store: SqlStore):
    plan = await sqlite_store.read(PlanOfUnfinished())
    assert "ix_turnstream_turns_unfinished" in plan, plan


class PlanOfUnfinished(Query[str], frozen=True):
    def fetch(self, connection: Connection) -> str:
        statement = (
            "EXPLAIN QUERY PLAN SELECT * FROM turnstream_turns "
            "WHERE status IN ('pending', 'streaming', 'waiting') AND role = 'assistant'"
        )
        return " ".join(str(row) for row in connection.execute(text(statement)))


# -- what a turn holds
# ---------------------------------------------------------------------------------------------


async def test_blocks_after_a_cursor(store: SqlStore):
    turn, other = await running_turn(store), await running_turn(store)
    rows = [save(turn, sequence) for sequence in range(6)]
    await asyncio.gather(*map(store.write, [*rows, save(other, 0)]))
    stored = [operation.row for operation in rows]

    async def after(seq: int, limit: int = 10, from_block: int = 0) -> list[BlockRecord]:
        return await store.read(BlocksAfter(turn_id=turn.id, seq=seq, limit=limit, from_block=from_block))

    assert await after(0) == stored
    assert await after(stored[2].last_seq) == stored[3:]
    assert await after(stored[2].last_seq - 1) == stored[2:], (
        "a block that ends after the cursor is not had yet"
    )
    assert await after(0, limit=2) == stored[:2]
    assert await after(0, from_block=4) == stored[4:]
    assert await after(stored[-1].last_seq) == []
    grouped = [await store.read(AllBlocks(turn_id=turn_id)) for turn_id in (other.id, turn.id, "nobody")]
    assert grouped[1] == stored
    assert (len(grouped[0]), grouped[2]) == (1, [])


async def test_the_greatest_seq_is_found_wherever_it_is(store: SqlStore):
    turn = await running_turn(store)

    async def last_seq() -> int:
        return await store.read(LastSeq(turn_id=turn.id))

    assert await last_seq() == 0
    await store.write(save(turn, 0))
    assert await last_seq() == 9
    await store.write(
        SaveAnnotations(turn_id=turn.id, generation=turn.generation, rows=(Annotation(turn.id, 41, b"{}"),))
    )
    assert await last_seq() == 41
    await store.write(finish(turn, last_seq=500))
    assert await last_seq() == 500
    assert await store.read(LastSeq(turn_id=new_id())) == 0


async def test_the_journal_comes_in_order(store: SqlStore):
    turn = await running_turn(store)
    segments = [make_segment(turn, sequence, number) for sequence in (1, 2) for number in range(12)]
    shuffled = tuple(sorted(segments, key=lambda segment: str(segment.number)))
    await store.write(append_journal(segments=shuffled))
    assert await store.read(Journal(turn_id=turn.id)) == segments
    other, ended, silent = [await running_turn(store) for _ in range(3)]
    await store.write(finish(ended))
    one = make_segment(other, 1, 0)
    await store.write(append_journal(segments=(make_segment(ended, 1, 0), one)))
    assert await store.read(Journals()) == {turn.id: segments, other.id: [one]}
    assert await store.read(Journal(turn_id=silent.id)) == []


async def test_what_is_not_json_keeps_no_other_from_the_journal(store: SqlStore):
    well, unlucky = await running_turn(store), await running_turn(store)
    first, second = make_segment(well, 0, 0), make_segment(well, 0, 1)
    deep: list[Any] = []
    deep.append(deep)
    bad = [
        msgspec.structs.replace(make_segment(unlucky, number, 0), content={"not": value})
        for number, value in enumerate((object(), deep))
    ]
    await store.write(append_journal(segments=(first, *bad, second)))
    assert await store.read(Journals()) == {well.id: [first, second]}


async def test_a_first_segment_begins_its_block_anew(store: SqlStore):
    """A repeated row counts once: a write may be repeated, alone or with later writes."""
    turn = await running_turn(store)
    first, second, third = [make_segment(turn, 1, number) for number in range(3)]
    for segments in ((first,), (first, second), (second,), (second, third), ()):
        await store.write(append_journal(segments=segments))
    assert await store.read(Journal(turn_id=turn.id)) == [first, second, third]
    whole = msgspec.structs.replace(first, seq=third.seq, text="piecepiecepiece")
    page = await store.write(append_journal(segments=(whole,)))
    assert await store.read(Journal(turn_id=turn.id)) == [whole]
    await store.write(append_journal(segments=(second,)))
    assert await store.read(Journal(turn_id=turn.id)) == [whole, second]
    await store.write(TrimJournal(before=page.number))
    assert await store.read(Journal(turn_id=turn.id)) == [whole, second]
    await store.write(TrimJournal(before=None))
    assert await store.read(Journals()) == {}


async def test_annotations_after_a_cursor(store: SqlStore):
    turn = await running_turn(store)
    rows = tuple(Annotation(turn.id, seq, b'{"type":"source"}') for seq in range(1, 8))
    await store.write(SaveAnnotations(turn_id=turn.id, generation=turn.generation, rows=rows))
    assert await store.read(AnnotationsAfter(turn_id=turn.id, seq=3, limit=2)) == [rows[3], rows[4]]


# -- history
# -------------------------------------------------------------------------------------------------------


async def test_the_path_leads_from_the_first_turn_past_other_branches(store: SqlStore):
    chat = await stored_chat(store)
    path: list[TurnRecord] = []
    for number in range(4):
        user = make_turn(chat, "user", path[-1] if path else None)
        assistant = make_turn(chat, "assistant", user)
        question = make_block(user, 0, f"question {number}")
        await store.write(
            StartTurns(owner=OWNER, user_turn=user, assistant_turn=assistant, user_blocks=(question,))
        )
        await store.write(save(assistant, 0, f"answer {number}"))
        await store.write(save(assistant, 1, "and more"))
        await store.write(finish(assistant, "error"))
        sibling = make_turn(chat, "assistant", user)
        await store.write(StartTurns(owner=OWNER, user_turn=None, assistant_turn=sibling))
        path += [user, assistant]
    found = await read_history(store, path[-1].id)
    assert [turn.id for turn, _ in found] == [turn.id for turn in path]
    texts = [[block.text_content for block in held] for _, held in found]
    assert texts == [
        words for number in range(4) for words in ([f"question {number}"], [f"answer {number}", "and more"])
    ]
    beginning = HistoryBeginning(turn_id=path[-1].id, bounds=PORTION, depth=3)
    last, portion = await store.read(beginning)
    assert (
        last == [piece.turn and piece.turn.id for piece in portion.pieces] == [turn.id for turn in path[-3:]]
    )
    assert await read_history(store, new_id()) == []


async def test_a_long_history_is_read_whole(store: SqlStore):
    chat = await stored_chat(store)
    previous: TurnRecord | None = None
    for _ in range(700):
        turn = msgspec.structs.replace(make_turn(chat, "assistant", previous), status="complete")
        await store.write(StartTurns(owner=OWNER, user_turn=None, assistant_turn=turn))
        previous = turn
    assert previous is not None
    path = await read_history(store, previous.id)
    assert len(path) == 700
    assert path[-1][0] == previous
