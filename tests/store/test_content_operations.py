"""Each write of content: its effect, its refusals, and the rows that it does not change."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.store.reads import AnnotationsAfter
from tests.store.rereading import blocks_of, reread
from tests.store.samples import (
    append_journal,
    finish,
    make_segment,
    running_turn,
    save,
)
from turnstream.core.blocks import Block
from turnstream.core.identifiers import new_id
from turnstream.errors import Fenced, StaleGeneration
from turnstream.store.base import Annotation, BlockRecord
from turnstream.store.journal.queries import Journal
from turnstream.store.operations.content import SaveAnnotations, SaveBlock
from turnstream.store.operations.progress import RetractBlocks
from turnstream.store.queries import LastSeq
from turnstream.store.sql import SqlStore

# -- content
# -------------------------------------------------------------------------------------------------------


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
        StaleGeneration,
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
    """A write whose answer is lost is repeated."""
    turn = await running_turn(store)
    for sequence in (0, 1):
        await store.write(save(turn, sequence))
    await store.write(append_journal(segments=(make_segment(turn, 2, 0),)))
    back = RetractBlocks(turn_id=turn.id, generation=turn.generation, index=1, seq=1000)
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
