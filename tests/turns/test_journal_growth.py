"""The journal of a large growing block holds what it gained, and recovery joins it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.turnlog.scripted import new_log
from tests.turns.test_journal import pages
from tests.turns.world import Feed, World
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import ContentBlockStart, ContentDelta, SignatureDelta, TextDelta
from turnstream.core.turn_events import BlockDelta, BlockStart, SourceEvent
from turnstream.store.journal.growth import ContentGrowth
from turnstream.store.journal.pages import JournalSegment, partial_blocks
from turnstream.turns.journal import BlockJournal

VALUES = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=3), st.just("x" * 300))
CHANGES = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2), max_size=12)


@pytest.mark.fault(26)
@given(CHANGES, st.data())
def test_what_was_gained_merges_to_the_content(changes: list[dict[str, Any]], data: st.DataObject) -> None:
    block, kept, growth = OpenBlock(0, 0, "text", None), OpenBlock(0, 0, "text", None), ContentGrowth()
    for change in changes:
        block.merge(msgspec.json.decode(msgspec.json.encode(change)))
        if data.draw(st.booleans()):
            gained = growth.gained(block.content)
            if gained is None:
                kept.content = msgspec.json.decode(msgspec.json.encode(block.content))
                growth.begin(block.content)
            else:
                kept.merge(msgspec.json.decode(msgspec.json.encode(gained)))
            assert kept.content == block.content


def grown(kind: str, number: int) -> SourceEvent:
    if kind == "signature":
        return SignatureDelta(0, f"{number:08}" * 128)
    if kind == "citations":
        return ContentDelta(0, {"citations": [{"number": number, "quote": "q" * 1000}]})
    if kind == "beside a large value":
        return ContentDelta(0, {"count": number, "logs": [f"{number:08}" * 128]})
    return TextDelta(0, f"{number:08}" * 128)


@pytest.mark.fault(26)
@pytest.mark.requirement("D5")
@pytest.mark.parametrize("kind", ["signature", "citations", "beside a large value", "text"])
async def test_a_block_that_grows_costs_the_journal_what_it_gains(tmp_path: Path, kind: str) -> None:
    """The journal holds everything that the block had when its process died."""
    path = tmp_path / "turns.sqlite"
    count = 200
    async with World(path) as world:
        feed = Feed()
        block_type = "thinking" if kind == "signature" else "text"
        executor = await world.start_foreign(feed.events())
        await feed.say(ContentBlockStart(0, block_type, {"large": "v" * 100_000}))
        await world.journal.write()
        for number in range(count):
            await feed.say(grown(kind, number))
            await world.journal.write()
        written = sum(map(len, pages(path)))
        assert written < 100_000 + 1.5 * count * 1100
        block = executor.log.open_block
        assert block is not None
        expected = block.finish(partial=True)
        await world.crash()
    async with World(path) as world:
        await world.ended(executor.turn.id)
        (row,) = await world.stored(executor.turn.id)
        assert row.block == expected


@pytest.mark.fault(26)
def test_segments_of_an_earlier_version_are_read_as_they_were_meant() -> None:
    """Each entry had the whole content, with the signature, after each change."""
    old = [
        ["t", 0, 0, "thinking", 2, 3, "hm", {"signature": "ab"}],
        ["t", 0, 1, "thinking", 2, 5, "m", {"signature": "abcd", "note": 1}],
        ["t", 0, 2, "thinking", 2, 6, "!", None],
    ]
    segments = msgspec.json.decode(msgspec.json.encode(old), type=list[JournalSegment])
    ((block, first_seq),) = partial_blocks(segments)
    assert (block.text_content, block.content, first_seq) == ("hmm!", {"note": 1, "signature": "abcd"}, 2)


@pytest.mark.fault(26)
def test_a_list_that_took_the_place_of_another_is_written_whole() -> None:
    log, journal = new_log(), BlockJournal()
    block = OpenBlock(0, 0, "provider", {"items": [1, 2]})
    log.show([BlockStart(0, "provider", {"items": [1, 2]})], block)
    segments: list[JournalSegment] = []
    for content in ({}, {"items": [3]}, {"items": None}, {"items": [9, 9, 9, 9]}, {"other": 1}):
        block.merge(content)
        log.append([BlockDelta(0, "provider", "content", content)])
        if content != {"items": None}:  # it is replaced twice between two segments
            segments.append(journal.next_part(log, is_settled=True) or segments[-1])
    assert [segment.content is not None for segment in segments] == [True, False, True, False]
    ((kept, _),) = partial_blocks(segments)
    assert kept.content == {"items": [9, 9, 9, 9], "other": 1}
