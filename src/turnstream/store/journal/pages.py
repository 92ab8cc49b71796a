"""Pages of the journal. A page is one row with the growth of the open blocks of many turns.

A write of a page looks nothing up, and nothing is deleted when a block is stored or a turn ends. Both would
need an index entry for every segment, which costs several times as much as the segment. Readers decide which
segments count, after a crash. The journal's keeper rewrites the journal from time to time, and deletes the
older pages.

Every page has an owner: the node that wrote it. A node deletes its own pages. A node that recovers the turns
of a dead node reads the dead node's pages, then deletes them.

A page has one of two forms. In a database with a single writer process, a page has segments of open blocks.
If several nodes share the database, a page has items (`items.py`): all events of its owner's turns, which
other nodes show to their watchers.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import msgspec

from turnstream.core.blocks import Block, BlockType
from turnstream.core.open_block import OpenBlock
from turnstream.store.columns import encode_json
from turnstream.store.journal.items import FeedItem, FoldedItems, TurnItems
from turnstream.wires.base import StoredAnswer

logger = logging.getLogger(__name__)

LOCAL_NODE = "local"
"""Owner of all pages of a database that has a single writer process."""

NOT_JSON = (TypeError, ValueError, RecursionError)
"""Errors for a value without a JSON form, and for a text that cannot be decoded."""


class JournalSegment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The growth of an open block since its last segment.

    Args:
        number: Number of the segment in its block, from 0. Segment 0 has all of the block so far, and
            replaces earlier segments of the block.
        first_seq: The block's first seq.
        seq: Seq of the last event that the segment contains.
        text: Text to append.
        content: Content that replaces the block's content. None leaves it.
        gained: Content to merge into the block's content, like a content delta. None if there is none.
        signature: Text to append to the block's signature.

    Stored pages have the fields in this order. A new field comes last and has a default.
    """

    turn_id: str
    sequence: int
    number: int
    block_type: str
    first_seq: int
    seq: int
    text: str
    content: dict[str, Any] | None
    gained: dict[str, Any] | None = None
    signature: str = ""


JournalPart: TypeAlias = JournalSegment | TurnItems
"""Part of a page: the growth of one turn."""


class OpenedBlock(NamedTuple):
    """An open block of another executor, and the seq of its first event."""

    block: OpenBlock
    first_seq: int


class _RawItems(msgspec.Struct, frozen=True, array_like=True):
    """The items of one turn in a page, not decoded."""

    turn_id: str
    items: msgspec.Raw
    answer: StoredAnswer | None = None


class _ItemsPage(msgspec.Struct, frozen=True):
    turns: list[_RawItems]


_decoder = msgspec.json.Decoder(list[JournalSegment])
_page_decoder = msgspec.json.Decoder(_ItemsPage)
_items_decoder = msgspec.json.Decoder(tuple[FeedItem, ...])


def page_of(parts: Sequence[JournalPart]) -> str:
    """Return the parts, which are all of one kind, as JSON text.

    Segments are an array of arrays, each with a segment's fields in order. Items are an object with an array
    of `[turn_id, items]`.

    A part whose content is not JSON is left out. Its block cannot be stored either.
    """
    try:
        return _page_of(parts)
    except NOT_JSON:
        return _page_of([part for part in parts if _is_json(part)])


def _page_of(parts: Sequence[JournalPart]) -> str:
    if parts and isinstance(parts[0], TurnItems):
        return encode_json({"turns": parts})
    return encode_json(parts)


def items_in(page: str, turn_ids: Container[str]) -> Iterator[TurnItems]:
    """Yield the items of some turns in a page. Raises an error of `NOT_JSON` if they cannot be decoded."""
    if page.startswith("{"):
        for found in _page_decoder.decode(page).turns:
            if found.turn_id in turn_ids:
                yield TurnItems(found.turn_id, _items_decoder.decode(found.items), found.answer)


def read_pages(pages: Iterable[str], last_seqs: Mapping[str, int]) -> dict[str, list[JournalSegment]]:
    """Return the segments of each turn in `last_seqs`, in order.

    Args:
        pages: Texts of the pages, in the order in which they were written.
        last_seqs: The last seq of each turn's row. Older segments are left out: what they show was
            retracted.

    Segment 0 of a block replaces the block's earlier segments: the journal was rewritten there. If a segment
    is found twice, the first one counts.

    A page that cannot be decoded is logged. It may have held a new segment 0 of any block, and later segments
    would then continue another text. So later segments count only for blocks that have a segment 0 after this
    page.
    """
    turns: dict[str, dict[int, dict[int, JournalSegment]]] = {}
    sealed: set[tuple[str, int]] = set()
    """Blocks that have segments before an undecodable page."""
    folded: dict[str, FoldedItems] = {}
    for page in pages:
        try:
            for found in items_in(page, last_seqs):
                fold = folded.setdefault(found.turn_id, FoldedItems())
                for item in found.items:
                    fold.add(item)
            segments = [] if page.startswith("{") else _decoder.decode(page)
        except NOT_JSON as error:
            logger.error("a page of the journal cannot be read, and the text in it is lost: %s", error)
            sealed.update((turn_id, sequence) for turn_id, blocks in turns.items() for sequence in blocks)
            for fold in folded.values():
                fold.lose()
            continue
        for segment in segments:
            last_seq = last_seqs.get(segment.turn_id)
            if last_seq is None or segment.seq <= last_seq:
                continue
            blocks = turns.setdefault(segment.turn_id, {})
            if segment.number == 0:
                blocks[segment.sequence] = {0: segment}
                sealed.discard((segment.turn_id, segment.sequence))
            elif (segment.turn_id, segment.sequence) not in sealed:
                blocks.setdefault(segment.sequence, {}).setdefault(segment.number, segment)
    open_segments = {turn_id: _in_order(blocks) for turn_id, blocks in turns.items()}
    for turn_id, fold in folded.items():
        segment = segment_of(turn_id, fold)
        # A snapshot at the last seq has its event: the retraction, or the takeover with which it begins.
        if segment is not None and segment.seq >= last_seqs[turn_id]:
            open_segments[turn_id] = [segment]
    return open_segments


def segment_of(turn_id: str, fold: FoldedItems) -> JournalSegment | None:
    """Return the open block of folded items as one segment, or None if no block is open."""
    block = fold.block
    if block is None:
        return None
    content = block.shown_content()
    return JournalSegment(
        turn_id, block.sequence, 0, block.block_type, fold.first_seq, fold.last, block.text(), content
    )


def unbroken(segments: Sequence[JournalSegment]) -> Sequence[JournalSegment]:
    """Return the segments before the first gap.

    The journal drops text if storage fails for too long. Segments after the dropped text are useless.
    """
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else None
        expected = before.number + 1 if before is not None and before.sequence == segment.sequence else 0
        if segment.number != expected:
            return segments[:place]
    return segments


def partial_blocks(segments: Iterable[JournalSegment]) -> list[tuple[Block, int]]:
    """Return the blocks that the segments hold, each with its first seq.

    The blocks are partial: the journal ends there.
    """
    return [(block.finish(partial=True), first_seq) for block, first_seq in open_blocks(segments)]


def open_blocks(segments: Iterable[JournalSegment]) -> list[OpenedBlock]:
    """Return the blocks that the segments hold, in a form that can grow, each with its first seq."""
    blocks: list[OpenedBlock] = []
    for sequence, group in groupby(segments, key=lambda segment: segment.sequence):
        pieces = list(group)
        block_type: BlockType = pieces[0].block_type  # type: ignore[assignment]
        block = OpenBlock(sequence, 0, block_type, None, implicit=False)
        for piece in pieces:
            block.append(piece.text)
            if piece.content is not None:
                block.replace_content(piece.content)
            if piece.gained is not None:
                block.merge(piece.gained)
            if piece.signature:
                block.sign(piece.signature)
        blocks.append(OpenedBlock(block, pieces[0].first_seq))
    return blocks


def _is_json(part: JournalPart) -> bool:
    try:
        encode_json(part)
    except NOT_JSON:
        return False
    return True


def _in_order(blocks: Mapping[int, Mapping[int, JournalSegment]]) -> list[JournalSegment]:
    return [pieces[number] for _, pieces in sorted(blocks.items()) for number in sorted(pieces)]
