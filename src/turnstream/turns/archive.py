"""A turn's past in the store, as subscriptions read it: pages of frames, and pieces of large blocks.

Frames are made in the thread that reads the rows. A large block is read in stretches. The stretches are
cached, because many watchers catch up with the same block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from turnstream.core.content_parts import PART_BYTES
from turnstream.store.archive import ArchivedAfter, ArchivedBlock, CountBlocksUntil
from turnstream.store.base import BlockRecord, StoreReader
from turnstream.turnlog.catch_up import (
    BEGINNING,
    TEXT_PIECE,
    ArchivePage,
    BlockPosition,
    Item,
    LargeBlock,
    Parts,
    build_page,
    take_apart,
)
from turnstream.turnlog.log import TurnLog

KEPT_LENGTH = 32 * 1024 * 1024
"""Characters of large blocks that are cached for watchers."""
_PIECES_AHEAD = 8
"""Stretches of a text that are cached from one read of its row."""
_KNOWN_BLOCKS = 1000
_CONTENT_PIECE = -1
"""Number of the stretch that holds a block's content and signature."""


class KeptParts:
    """A cache of large blocks and their stretches, shared by threads.

    A stretch is TEXT_PIECE characters of a block's text, or the block's content and signature. The oldest
    stretches are evicted first.
    """

    def __init__(self, limit: int = KEPT_LENGTH) -> None:
        self._limit = limit
        self._length = 0
        self._pieces: OrderedDict[tuple[str, int], Parts] = OrderedDict()
        self._blocks: OrderedDict[str, LargeBlock] = OrderedDict()
        self._lock = Lock()

    def block(self, row_id: str) -> LargeBlock | None:
        """Return the large block of a row that was read recently, or None."""
        return self._blocks.get(row_id)

    def text_piece(self, block: LargeBlock, place: BlockPosition) -> Parts | None:
        """Return the cached parts that hold the piece at `place`, or None."""
        with self._lock:
            found = self._pieces.get(key := (block.row_id, _number(block, place)))
            if found is not None:
                self._pieces.move_to_end(key)
            return found

    def keep(self, block: LargeBlock, parts: Parts, place: BlockPosition) -> None:
        """Cache the parts that a watcher at `place` needs next.

        Args:
            block: The large block.
            parts: All parts of the block.
            place: Position of the watcher in the block.
        """
        number = _number(block, place)
        ahead = range(number + _PIECES_AHEAD, max(number, 0) - 1, -1)
        with self._lock:
            for text_number in ahead:
                text = parts.text[text_number * TEXT_PIECE : (text_number + 1) * TEXT_PIECE]
                if text:
                    self._put((block.row_id, text_number), Parts([], text, ""))
            if number == _CONTENT_PIECE:
                self._put((block.row_id, number), Parts(parts.contents, "", parts.signature))
            self._blocks[block.row_id] = block
            while len(self._blocks) > _KNOWN_BLOCKS:
                self._blocks.popitem(last=False)

    def _put(self, key: tuple[str, int], parts: Parts) -> None:
        if key in self._pieces:
            return
        self._pieces[key] = parts
        self._length += _length(parts)
        while self._length > self._limit and len(self._pieces) > 1:
            _, gone = self._pieces.popitem(last=False)
            self._length -= _length(gone)


def _number(block: LargeBlock, place: BlockPosition) -> int:
    """Return the number of the stretch that holds a block's piece at `place`."""
    whole = block.whole
    in_text = place.contents >= whole.contents and place.text < whole.text
    return place.text // TEXT_PIECE if in_text else _CONTENT_PIECE


def _length(parts: Parts) -> int:
    """Return the estimated characters of a stretch. It is an upper bound: most content parts are full."""
    return len(parts.contents) * PART_BYTES + len(parts.text) + len(parts.signature)


class StoreArchive:
    """Reads the stored events of one turn for its subscriptions."""

    __slots__ = ("_kept", "_log", "_store")

    def __init__(self, store: StoreReader, log: TurnLog, kept: KeptParts) -> None:
        self._store = store
        self._log = log
        self._kept = kept

    async def page_after(self, seq: int, *, next_block: int, horizon: int) -> ArchivePage:
        """Return the next page of frames. See `Archive.page_after`."""
        start = ArchivePage(b"", seq, next_block)
        # Not the log's own encoder: this one is used in a thread.
        encoder = self._log.encoder.of_generation(self._log.generation)

        def build(rows: Iterator[Item]) -> ArchivePage:
            page, parts = build_page(rows, start, horizon, encoder)
            if page.large is not None and parts is not None:
                self._kept.keep(page.large, parts, BEGINNING)
            return page

        query = ArchivedAfter(
            turn_id=self._log.turn_id, seq=seq, from_block=next_block, known=self._kept.block, use=build
        )
        return await self._store.read(query)

    async def parts_of(self, block: LargeBlock, place: BlockPosition) -> Parts | None:
        """Return the parts that hold the piece at `place`, or None. See `Archive.parts_of`."""
        if (found := self._kept.text_piece(block, place)) is not None:
            return found

        def text_piece_of(row: BlockRecord) -> Parts | None:
            if row.id != block.row_id:
                return None
            parts = take_apart(row.block)
            if parts.place != block.whole:
                return None
            self._kept.keep(block, parts, place)
            start = place.text // TEXT_PIECE * TEXT_PIECE
            return Parts(parts.contents, parts.text[start : start + TEXT_PIECE], parts.signature)

        query = ArchivedBlock(turn_id=self._log.turn_id, sequence=block.block_index, use=text_piece_of)
        return await self._store.read(query)

    async def count_until(self, seq: int) -> int:
        """Return the number of blocks that end at or before `seq`."""
        return await self._store.read(CountBlocksUntil(turn_id=self._log.turn_id, seq=seq))
