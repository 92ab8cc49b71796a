"""The journal's pages: what open blocks of many turns gained in one stretch, as one row.

Nothing is looked up when a page is written, and nothing is deleted when a block is stored or a turn ends: that would take a
place in an index for every segment, and several times what the segment itself takes. What counts is decided when pages are
read, after a crash; and the journal's keeper writes it anew from time to time, and deletes the older pages.

Every page has an owner, the node that wrote it. A node deletes its own pages; the node that recovers the turns of a dead one
reads, then deletes, the pages of that one.
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
"""The owner of the pages of a database that only one process at a time writes to."""

_NOT_JSON = (TypeError, ValueError, RecursionError)


class JournalSegment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The growth of an open block since its last segment.

    `number` counts a block's segments from 0; that one has all of the block so far, and begins it anew where there are
    others of it. `content` takes the place of what there was; `gained` is merged into it, as a content delta is; `signature`
    is appended. `seq` is the last event that the segment contains. The order of the fields is that of stored pages: new
    ones come last, with a default.
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
    """The segments as JSON text: an array each, of its fields in order. One whose content is not JSON is left out: its block
    cannot be stored either, and it must not keep the others from it."""
    try:
        return encode_json(segments)
    except _NOT_JSON:
        return encode_json([segment for segment in segments if _is_json(segment)])


def read_pages(pages: Iterable[str], last_seqs: Mapping[str, int]) -> dict[str, list[JournalSegment]]:
    """What pages, in the order of their writing, hold of the turns in `last_seqs`: each turn's segments in order.

    Left out are segments up to a turn's last seq: they were gathered before blocks of it were taken back. A segment with
    the number 0 begins its block anew, as when the journal is written anew. Of one that is there twice the first counts.

    A page that cannot be decoded is logged. It may have begun any block anew, so segments after it would continue another
    text: they count only for blocks that begin after it.
    """
    turns: dict[str, dict[int, dict[int, JournalSegment]]] = {}
    sealed: set[tuple[str, int]] = set()
    """Blocks that segments before an undecodable page belong to."""
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
    """Those before the first that is missing: the journal gives up text when storage fails for too long, and what came
    after is of no use without it."""
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else None
        expected = before.number + 1 if before is not None and before.sequence == segment.sequence else 0
        if segment.number != expected:
            return segments[:place]
    return segments


def partial_blocks(segments: Iterable[JournalSegment]) -> list[tuple[Block, int]]:
    """The blocks that journal segments hold, cut off where the journal ends, each with its first seq."""
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
