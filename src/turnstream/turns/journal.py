"""The journal: what open blocks gained, written every 100 ms for all turns at once, so that a killed process loses at
most that stretch (requirement D5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from turnstream.errors import StoreError
from turnstream.store.base import JournalSegment, Store
from turnstream.store.operations import AppendJournal
from turnstream.turnlog.memory import TurnLog

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL = 0.1
PORTION = 64
"""Segments gathered and written at a time: hundreds in one go would hold up the streams of their turns by milliseconds."""
DEFAULT_LIMIT = 32 * 1024 * 1024
"""Characters that wait for a store that fails."""


class BlockJournal:
    """How far the journal of one turn's open block is."""

    __slots__ = ("_length", "_number", "_seq", "_sequence")

    def __init__(self) -> None:
        self._sequence = -1
        self._number = 0
        self._length = 0
        self._seq = 0

    def next_segment(self, log: TurnLog) -> JournalSegment | None:
        """What the open block has gained since the last segment; None when that is nothing."""
        block = log.open_block
        if block is None or log.head <= self._seq:
            return None
        if self._sequence != block.sequence:
            self._sequence, self._number, self._length = block.sequence, 0, 0
        changed = self._number == 0 or log.content_since > self._seq
        segment = JournalSegment(
            log.turn_id,
            block.sequence,
            self._number,
            block.block_type,
            log.open_first_seq,
            log.head,
            block.text(self._length),
            block.shown_content() if changed else None,
        )
        self._number += 1
        self._length = block.length
        self._seq = log.head
        return segment


class JournalKeeper:
    """Writes the segments of all open blocks, a portion at a time.

    While a write is under way nothing more is gathered, so a slow store is never piled upon. What a failed write
    held is sent again with the next: it may have been stored all the same, so it must be the same again. When more
    than `limit` characters wait, they are given up; recovery stops at such a gap (see `recovery.unbroken`).
    """

    def __init__(
        self,
        store: Store,
        gather: Callable[[], Iterable[JournalSegment]],
        *,
        interval: float = DEFAULT_INTERVAL,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._store = store
        self._gather = gather
        self._interval = interval
        self._limit = limit
        self._unwritten: list[JournalSegment] = []
        self.writes = 0
        self.segments = 0
        self.given_up = 0
        """Writes, the segments in them, and the characters that were given up, since the start."""

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.write()
            except Exception:
                logger.exception("the journal failed; it goes on")

    async def write(self) -> None:
        """Write what has been gained since the last time."""
        gathered = iter(self._gather())
        while self._take_portion(gathered) and await self._write_portion():
            pass

    def _take_portion(self, gathered: Iterator[JournalSegment]) -> bool:
        """Whether there is anything to write."""
        for segment in islice(gathered, PORTION):
            self._unwritten.append(segment)  # one by one: what was gathered before a failure is not lost
        return bool(self._unwritten)

    async def _write_portion(self) -> bool:
        try:
            await self._store.write(AppendJournal(segments=tuple(self._unwritten)))
        except StoreError as error:
            logger.warning("the journal could not be written, and will be tried again: %s", error)
            self._give_up_beyond_limit()
            return False
        self.writes += 1
        self.segments += len(self._unwritten)
        self._unwritten.clear()
        return True

    def _give_up_beyond_limit(self) -> None:
        waiting = sum(len(segment.text) for segment in self._unwritten)
        if waiting > self._limit:
            self._unwritten.clear()
            self.given_up += waiting
            logger.error(
                "storage has failed for too long: %d characters are given up by the journal", waiting
            )
