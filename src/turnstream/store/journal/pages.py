"""Pages of the journal. A page is one row with the growth of the open blocks of many turns.

A write of a page looks nothing up, and nothing is deleted when a block is stored or a turn ends. Both would
need an index entry for every segment, which costs several times as much as the segment. Readers decide which
segments count, after a crash. The journal's keeper rewrites the journal from time to time, and deletes the
older pages.

Every page has an owner: the node that wrote it. A node deletes its own pages. A node that recovers the turns
of a dead node reads the dead node's pages, then deletes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from turnstream.core.blocks import Block, BlockType
from turnstream.core.open_block import OpenBlock
from turnstream.store.columns import encode_json

logger = logging.getLogger(__name__)

LOCAL_NODE = "local"
"""Owner of all pages of a database that has a single writer process."""

_NOT_JSON = (TypeError, ValueError, RecursionError)


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


_decoder = msgspec.json.Decoder(list[JournalSegment])


def page_of(segments: Sequence[JournalSegment]) -> str:
    """Return the segments as JSON text: an array of arrays, each with a segment's fields in order.

    A segment whose content is not JSON is left out. Its block cannot be stored either.
    """
    try:
        return encode_json(segments)
    except _NOT_JSON:
        return encode_json([segment for segment in segments if _is_json(segment)])


def read_pages(pages: Iterable[str], last_seqs: Mapping[str, int]) -> dict[str, list[JournalSegment]]:
    """Return the segments of each turn in `last_seqs`, in order.

    Args:
        pages: Texts of the pages, in the order in which they were written.
        last_seqs: The last seq of each turn. Segments up to it are left out: they are older than a
            retraction.

    Segment 0 of a block replaces the block's earlier segments: the journal was rewritten there. If a segment
    is found twice, the first one counts.

    A page that cannot be decoded is logged. It may have held a new segment 0 of any block, and later segments
    would then continue another text. So later segments count only for blocks that have a segment 0 after this
    page.
    """
    turns: dict[str, dict[int, dict[int, JournalSegment]]] = {}
    sealed: set[tuple[str, int]] = set()
    """Blocks that have segments before an undecodable page."""
    for page in pages:
        try:
            segments = _decoder.decode(page)
        except _NOT_JSON as error:
            logger.error("a page of the journal cannot be read, and the text in it is lost: %s", error)
            sealed.update((turn_id, sequence) for turn_id, blocks in turns.items() for sequence in blocks)
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
    return {turn_id: _in_order(blocks) for turn_id, blocks in turns.items()}


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
    blocks: list[tuple[Block, int]] = []
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
        blocks.append((block.finish(partial=True), pieces[0].first_seq))
    return blocks


def _is_json(segment: JournalSegment) -> bool:
    try:
        encode_json(segment)
    except _NOT_JSON:
        return False
    return True


def _in_order(blocks: Mapping[int, Mapping[int, JournalSegment]]) -> list[JournalSegment]:
    return [pieces[number] for _, pieces in sorted(blocks.items()) for number in sorted(pieces)]
