"""The journal: what open blocks gained, written every 100 ms for all turns at once, so that a killed process loses at
most that stretch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol, cast

from turnstream.core.blocks import Content
from turnstream.core.open_block import OpenBlock
from turnstream.errors import StoreError
from turnstream.store.base import Store
from turnstream.store.columns import encode_json
from turnstream.store.journal.operations import AppendJournal, JournalPage, TrimJournal
from turnstream.store.journal.pages import LOCAL_NODE, JournalSegment
from turnstream.store.journal.queries import LastPage
from turnstream.turnlog.log import TurnLog

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL = 0.1
PORTION = 256
"""Segments gathered and written at a time: thousands in one go would hold up the streams of their turns. Measured with 200
turns at 50 events/s, seven passes: 64 at a time take 1 µs of CPU more per event, and the p99 of its age is 1.1 ms, not 1.6."""
PORTION_CHARACTERS = 1024 * 1024
DEFAULT_SIZE = 4 * 1024 * 1024
"""Characters that the journal may hold, whatever the open blocks do."""
RENEWED_EVERY = 60.0
"""Seconds that text may stay in the journal that is stored, or deleted, elsewhere."""
DEFAULT_LIMIT = 32 * 1024 * 1024
"""Characters that wait for a store that fails."""


_NOTHING = object()


class BlockJournal:
    """How far the journal of one turn's open block is."""

    __slots__ = ("_growth", "_length", "_number", "_seq", "_sequence", "_signature")

    def __init__(self) -> None:
        self._growth: ContentGrowth | None = None
        self._sequence = -1
        self._number = 0
        self._length = 0
        self._signature = 0
        self._seq = 0

    def next_segment(self, log: TurnLog) -> JournalSegment | None:
        """What the open block has gained since the last segment; None when that is nothing."""
        block, first_seq, content_since, seq = log.open_state
        if block is None or seq <= self._seq:
            return None
        if self._sequence != block.sequence:
            return self._first(log, block, seq)
        number = self._number
        content, gained = self._content_of(block) if content_since > self._seq else (None, None)
        signature = ""
        if block.signature_length > self._signature:
            signature = block.signature_since(self._signature)
            self._signature = block.signature_length
        segment = JournalSegment(
            log.turn_id,
            block.sequence,
            number,
            block.block_type,
            first_seq,
            seq,
            block.text_since(self._length),
            content,
            gained,
            signature,
        )
        self._number = number + 1
        self._length = block.length
        self._seq = seq
        return segment

    def _content_of(self, block: OpenBlock) -> tuple[Content | None, Content | None]:
        """Return the block's content where it is to be written whole, and else what it has gained."""
        growth = self._growth = self._growth or ContentGrowth()
        gained = growth.gained(block.content)
        if gained is not None:
            return None, gained or None
        growth.begin(block.content)
        self._signature = block.signature_length
        return block.shown_content(), None

    def whole_segment(self, log: TurnLog) -> JournalSegment | None:
        """All of the open block; what it gains from now on comes next. None when there is no block."""
        block = log.open_block
        return None if block is None else self._first(log, block, log.open_seq)

    def _first(self, log: TurnLog, block: OpenBlock, seq: int) -> JournalSegment:
        self._sequence, self._number, self._length, self._seq = block.sequence, 1, block.length, seq
        self._signature = block.signature_length
        self._growth = None
        if block.content:
            self._growth = ContentGrowth()
            self._growth.begin(block.content)
        return JournalSegment(
            log.turn_id,
            block.sequence,
            0,
            block.block_type,
            log.open_first_seq,
            seq,
            block.text(),
            block.shown_content(),
        )


class ContentGrowth:
    """Remembers how far a content has been written: of lists the length and the last item, of other values which they
    were."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Any]] = {}

    def begin(self, content: Content) -> None:
        """Take all of `content` as written."""
        self._known = {key: _mark(value) for key, value in content.items()}

    def gained(self, content: Content) -> Content | None:
        """Return what merges the content that was written into `content`, and take that as written. None if merging
        cannot do it: a list took the place of another one."""
        known = self._known
        gained: Content = {}
        for key, value in content.items():
            length, last = known.get(key, (-1, _NOTHING))
            if not isinstance(value, list):
                if length >= 0 or value is not last:
                    gained[key] = value
            elif length < 0:
                gained[key] = value
            else:
                items = cast("list[Any]", value)
                if len(items) < length or (length and items[length - 1] is not last):
                    return None
                if len(items) > length:
                    gained[key] = items[length:]
        for key in gained:
            known[key] = _mark(content[key])
        return gained


class Gather(Protocol):
    """What the open blocks of all turns have gained since the last call; `whole`: all that they hold."""

    def __call__(self, *, whole: bool) -> Iterable[JournalSegment]: ...


class JournalKeeper:
    """Writes the segments of all open blocks, a portion at a time, each as a page.

    While a write is under way nothing more is gathered, so a slow store is never piled upon. What a failed write
    held is sent again with the next: it may have been stored all the same, so it must be the same again.

    A page stays when its blocks are stored. So when the journal has grown to `size` characters and to three times what the
    open blocks held, or a minute has passed, they are written whole; once that is done, the pages before go. They are
    written whole, too, after more than `limit` characters have waited for a store that fails, and were given up.
    """

    def __init__(  # noqa: PLR0913 - bounds and the owner come by name
        self,
        store: Store,
        gather: Gather,
        *,
        interval: float = DEFAULT_INTERVAL,
        limit: int = DEFAULT_LIMIT,
        size: int = DEFAULT_SIZE,
        owner: str = LOCAL_NODE,
    ) -> None:
        self._store = store
        self._gather = gather
        self._interval = interval
        self._limit = limit
        self._owner = owner
        self._page: int | None = None
        """The number of the last page; None until it is looked up."""
        self._allowed = self._least = size
        self._size = 0
        self._renew = True  # an earlier process may have left pages
        self._is_held = False
        self._renewed_at = 0.0
        self._unwritten: list[JournalSegment] = []
        self.writes = 0
        self.segments = 0
        self.given_up = 0
        """Writes, the segments in them, and the characters that were given up, since the start."""

    def hold(self) -> None:
        """Delete no page until `release`: recovery still needs those of an earlier process."""
        self._is_held = True

    def release(self) -> None:
        """Delete pages again; those of an earlier process go with the next write."""
        self._is_held = False
        self._renew = True

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.write()
            except Exception:
                logger.exception("the journal failed; it goes on")

    async def write(self) -> None:
        """Write what has been gained since the last time; or all of it anew, where that is due."""
        now, older = asyncio.get_running_loop().time(), self._size
        is_due = older > self._allowed or (older and now - self._renewed_at >= RENEWED_EVERY)
        if is_due and not self._is_held:
            self._renew = True
        if whole := self._renew:
            self._unwritten.clear()  # what waits is of open blocks, which come whole, or of stored ones
        first: int | None = None
        if self._page is None and not await self._find_page():
            return
        gathered = iter(self._gather(whole=whole))
        while self._take_portion(gathered):
            page = await self._write_portion()
            if page is None:
                return
            first = first or page.number
        if whole and self._is_held:
            self._renew = False
        elif whole and await self._trim(first):
            self._renew, self._renewed_at = False, now
            self._size -= older
            self._allowed = max(self._least, 3 * self._size)

    async def _find_page(self) -> bool:
        """Look up the last page that an earlier process wrote; return False if storage refused it."""
        try:
            self._page = await self._store.read(LastPage(owner=self._owner))
        except StoreError as error:
            logger.warning("the journal could not be read, and will be tried again: %s", error)
            return False
        return True

    def _take_portion(self, gathered: Iterator[JournalSegment]) -> bool:
        """Whether there is anything to write."""
        characters = 0
        for segment in islice(gathered, PORTION):
            self._unwritten.append(segment)  # one by one: what was gathered before a failure is not lost
            characters += _characters(segment)
            if characters > PORTION_CHARACTERS:
                break
        return bool(self._unwritten)

    async def _write_portion(self) -> JournalPage | None:
        """None when storage refused it."""
        # A number is used once: what was refused may be stored all the same, and comes again with more.
        self._page = number = (self._page or 0) + 1
        try:
            page = await self._store.write(
                AppendJournal(owner=self._owner, page=number, segments=tuple(self._unwritten))
            )
        except StoreError as error:
            logger.warning("the journal could not be written, and will be tried again: %s", error)
            self._give_up_beyond_limit()
            return None
        self.writes += 1
        self.segments += len(self._unwritten)
        self._size += page.size
        self._unwritten.clear()
        return page

    async def _trim(self, first: int | None) -> bool:
        """Let go of the pages before `first`, or of all; False when storage refused it."""
        try:
            await self._store.write(TrimJournal(owner=self._owner, before=first))
        except StoreError as error:
            logger.warning("the journal could not be trimmed, and will be written anew again: %s", error)
            return False
        return True

    def _give_up_beyond_limit(self) -> None:
        waiting = sum(map(_characters, self._unwritten))
        if waiting > self._limit:
            self._unwritten.clear()
            self._renew = True
            self.given_up += waiting
            logger.error(
                "storage has failed for too long: %d characters are given up by the journal, until it can be written anew",
                waiting,
            )


def _characters(segment: JournalSegment) -> int:
    """Return the characters of a segment; of its content, which is seldom there, as JSON."""
    count = len(segment.text) + len(segment.signature)
    for content in (segment.content, segment.gained):
        if content:
            with suppress(TypeError, ValueError, RecursionError):  # what is not JSON is not written
                count += len(encode_json(content))
    return count


def _mark(value: Any) -> tuple[int, Any]:
    """Return a list's length and last item; for another value -1 and the value."""
    if not isinstance(value, list):
        return -1, value
    items = cast("list[Any]", value)
    return len(items), items[-1] if items else None
