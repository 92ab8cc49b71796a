"""The journal's pages: what open blocks of many turns gained in one stretch, as one row.

Nothing is looked up when a page is written, and nothing is deleted when a block is stored or a turn ends: that would take a
place in an index for every segment, and several times what the segment itself takes. What counts is decided when pages are
read, after a crash; and the journal's keeper writes it anew from time to time, and lets go of the older pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from turnstream.store.base import JournalSegment
from turnstream.store.columns import encode_json

logger = logging.getLogger(__name__)

_NOT_JSON = (TypeError, ValueError, RecursionError)
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


def _is_json(segment: JournalSegment) -> bool:
    try:
        encode_json(segment)
    except _NOT_JSON:
        return False
    return True


def _in_order(blocks: Mapping[int, Mapping[int, JournalSegment]]) -> list[JournalSegment]:
    return [pieces[number] for _, pieces in sorted(blocks.items()) for number in sorted(pieces)]
