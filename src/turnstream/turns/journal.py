"""The journal: what turns have gained, written every 100 ms for all turns together.

A killed process loses at most the last interval. If several nodes share the database, the pages have all
events of the turns, and other nodes show them to their watchers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

from turnstream.core.blocks import Content
from turnstream.core.open_block import OpenBlock
from turnstream.errors import StoreError
from turnstream.nodes.node import OwnNode
from turnstream.store.base import Store
from turnstream.store.columns import encode_json
from turnstream.store.journal.growth import ContentGrowth
from turnstream.store.journal.items import TurnItems, item_length
from turnstream.store.journal.operations import AppendJournal, JournalPage, TrimJournal
from turnstream.store.journal.pages import JournalPart, JournalSegment
from turnstream.store.journal.queries import LastPage
from turnstream.turnlog.log import TurnLog

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL = 0.1
FOLLOWED_INTERVAL = 0.05
"""Seconds between writes while another node follows."""
KEPT_FOR_FOLLOWERS = 1.0
"""Seconds that pages stay after a rewrite, for nodes that have not read them yet."""
PORTION = 256
"""Segments gathered and written at a time. Thousands at once would delay the streams of their turns.

Measured with 200 turns at 50 events/s, in seven passes: 64 at a time take 1 µs more CPU per event, and the
p99 of an event's age is 1.1 ms instead of 1.6 ms.
"""
PORTION_CHARACTERS = 1024 * 1024
DEFAULT_SIZE = 4 * 1024 * 1024
"""Characters that the journal may always hold, even if the open blocks hold less."""
RENEWED_EVERY = 60.0
"""Seconds after which the journal is written anew, to remove text that was stored or deleted elsewhere."""
DEFAULT_LIMIT = 32 * 1024 * 1024
"""Characters that may wait for a store that fails."""


class TurnJournal(Protocol):
    """Tracks how much of one turn is in the journal."""

    def next_part(self, log: TurnLog, *, is_settled: bool) -> JournalPart | None:
        """Return what the log has gained since the last part, or None.

        `is_settled`: False while a row is written, or the turn's end is decided.
        """
        ...

    def whole_part(self, log: TurnLog) -> JournalPart | None:
        """Return the part with all that the store does not have, or None. The next part continues it."""
        ...

    def retract(self) -> None:
        """Note that blocks were retracted."""
        ...


class BlockJournal:
    """Tracks how much of one turn's open block is in the journal."""

    __slots__ = ("_growth", "_length", "_number", "_seq", "_sequence", "_signature")

    def __init__(self) -> None:
        self._growth: ContentGrowth | None = None
        self.retract()

    def retract(self) -> None:
        """Begin anew: a later block may have the sequence of a retracted one."""
        self._growth = None
        self._sequence = -1
        self._number = self._length = self._signature = self._seq = 0

    def next_part(self, log: TurnLog, *, is_settled: bool) -> JournalSegment | None:
        """Return the growth of the open block since the last segment, or None if it has not grown."""
        block, first_seq, content_since, seq = log.open_state
        if block is None or seq <= self._seq or not is_settled:
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
        """Return the block's whole content and None, or None and its growth if that is enough."""
        growth = self._growth = self._growth or ContentGrowth()
        gained = growth.gained(block.content)
        if gained is not None:
            return None, gained or None
        growth.begin(block.content)
        self._signature = block.signature_length
        return block.shown_content(), None

    def whole_part(self, log: TurnLog) -> JournalSegment | None:
        """Return the whole open block, or None if no block is open. The next segment continues it."""
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


class Gather(Protocol):
    """Returns the parts of all turns since the last call. `whole`: all that the store does not have."""

    def __call__(self, *, whole: bool) -> Iterable[JournalPart]: ...


@dataclass(eq=False, slots=True)
class _SharedPage:
    """A page that the callers of `append` wait for.

    `is_written`: None until the write has ended. A caller that is cancelled leaves it to the next one.
    """

    parts: list[JournalPart]
    is_written: bool | None = None


class _DueTrim(NamedTuple):
    """A deletion of the pages before the page `before`.

    Attributes:
        at: Time of the deletion on the event loop's clock.
        size: Characters in the pages.
    """

    at: float
    before: int
    size: int


class JournalKeeper:
    """Writes the parts of all turns, a portion at a time, each as a page.

    Nothing is gathered during a write, so writes do not pile up on a slow store. The parts of a failed write
    are sent again, unchanged, with the next one: the store may have kept them.

    Pages stay after their blocks are stored. So all open blocks are written whole after a minute, or earlier
    if the journal exceeds both `size` characters and three times the length of the open blocks. Then the
    earlier pages are deleted. The blocks are also written whole after segments were discarded.

    Attributes:
        is_followed: True while another node shows turns of this one.

    Args:
        interval: Seconds between writes.
        limit: Characters that may wait for a store that fails. Beyond it the waiting segments are discarded.
        size: Characters that the journal may always hold.
        node: This process, the owner of the pages.
    """

    def __init__(  # noqa: PLR0913 - bounds and the owner come by name
        self,
        store: Store,
        gather: Gather,
        *,
        interval: float = DEFAULT_INTERVAL,
        limit: int = DEFAULT_LIMIT,
        size: int = DEFAULT_SIZE,
        node: OwnNode | None = None,
    ) -> None:
        self._store = store
        self._gather = gather
        self._interval = interval
        self._limit = limit
        self._node = node or OwnNode()
        self._page: int | None = None
        """Number of the last page. None until it has been looked up."""
        self._allowed = self._least = size
        self._size = 0
        self._renew = True  # an earlier process may have left pages
        self._is_held = False
        self._renewed_at = 0.0
        self._due: _DueTrim | None = None
        self._lock = asyncio.Lock()
        self.is_followed = False
        self._unwritten: list[JournalPart] = []
        self._shared = _SharedPage([])
        self.writes = 0
        self.segments = 0
        self.given_up = 0
        """Writes, segments in them, and discarded characters, since the start."""

    def renew_soon(self) -> None:
        """Delete the pages so far with the next write: a provider withdrew text that they have."""
        self._renew = True

    async def close(self) -> None:
        """Delete the pages whose deletion is due. Call it after the last turn has ended."""
        if self._renew and not self._is_held:
            await self.write()

    def hold(self) -> None:
        """Delete no pages until `release`: recovery still needs the pages of an earlier process."""
        self._is_held = True

    def release(self) -> None:
        """Delete pages again. The pages of an earlier process are deleted with the next write."""
        self._is_held = False
        self._renew = True

    async def run(self) -> None:
        """Write at each interval, until cancelled."""
        while True:
            await asyncio.sleep(
                min(self._interval, FOLLOWED_INTERVAL) if self.is_followed else self._interval
            )
            try:
                await self.write()
            except Exception:
                logger.exception("a write of the journal failed; the next one is tried")

    async def append(self, parts: Sequence[JournalPart]) -> None:
        """Write parts at once. Callers that wait for the same earlier write share a page.

        Raises StoreError if storage failed. The next write may have the parts then.
        """
        page = self._shared
        page.parts.extend(parts)
        async with self._lock:
            if self._shared is page:
                self._shared = _SharedPage([])
            if page.is_written is None:
                self._unwritten.extend(page.parts)  # perhaps again, after a cancelled caller: readers skip it
                is_known = self._page is not None or await self._find_page()
                page.is_written = is_known and await self._write_portion() is not None
        if not page.is_written:
            raise StoreError("the journal cannot be written")

    async def write(self) -> None:
        """Write the growth since the last call, or all open blocks if a rewrite is due."""
        async with self._lock:
            await self._write()

    async def _write(self) -> None:
        now, older = asyncio.get_running_loop().time(), self._size
        is_due = older > self._allowed or (older and now - self._renewed_at >= RENEWED_EVERY)
        if is_due and not self._is_held:
            self._renew = True
        if whole := self._renew:
            self._unwritten.clear()  # these segments are of open blocks, which come whole, or of stored ones
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
        elif whole:
            self._renew, self._renewed_at = False, now
            self._allowed = max(self._least, 3 * (self._size - older))
            at = now + KEPT_FOR_FOLLOWERS if self.is_followed else now
            self._due = _DueTrim(at, first or (self._page or 0) + 1, older)
        if self._due is not None and now >= self._due.at and not self._is_held:
            await self._trim(self._due)

    async def _find_page(self) -> bool:
        """Look up the last page of an earlier process. Return False if storage failed."""
        try:
            self._page = await self._store.read(LastPage(owner=self._node.id))
        except StoreError as error:
            logger.warning("the journal could not be read, and will be tried again: %s", error)
            return False
        return True

    def _take_portion(self, gathered: Iterator[JournalPart]) -> bool:
        """Gather a portion. Return True if there is anything to write."""
        characters = 0
        for segment in islice(gathered, PORTION):
            self._unwritten.append(segment)  # one at a time: a failure loses none that was gathered
            characters += _characters(segment)
            if characters > PORTION_CHARACTERS:
                break
        return bool(self._unwritten)

    async def _write_portion(self) -> JournalPage | None:
        """Write the gathered segments as a page. Return None if storage failed."""
        # A number is used once: a refused page may be stored all the same. Its segments come again.
        self._page = number = (self._page or 0) + 1
        try:
            page = await self._store.write(
                AppendJournal(owner=self._node.id, page=number, parts=tuple(self._unwritten))
            )
        except StoreError as error:
            logger.warning("the journal could not be written, and will be tried again: %s", error)
            self._discard_beyond_limit()
            return None
        self.writes += 1
        self.segments += len(self._unwritten)
        self._size += page.size
        self._unwritten.clear()
        return page

    async def _trim(self, due: _DueTrim) -> None:
        """Delete the pages before a rewrite. If storage fails, the journal is rewritten again."""
        self._due = None
        try:
            await self._store.write(TrimJournal(owner=self._node.id, before=due.before))
        except StoreError as error:
            logger.warning("the journal could not be trimmed, and will be rewritten: %s", error)
            self._renew = True
        else:
            self._size -= due.size

    def _discard_beyond_limit(self) -> None:
        waiting = sum(map(_characters, self._unwritten))
        if waiting > self._limit:
            self._unwritten.clear()
            self._renew = True
            self.given_up += waiting
            logger.error(
                "storage has failed for too long: %d characters of the journal are missing "
                "until the next rewrite",
                waiting,
            )


def _characters(segment: JournalPart) -> int:
    """Return the characters of a part. The content of a segment, which is rare, counts as JSON."""
    if isinstance(segment, TurnItems):
        return sum(map(item_length, segment.items))
    count = len(segment.text) + len(segment.signature)
    for content in (segment.content, segment.gained):
        if content:
            with suppress(TypeError, ValueError, RecursionError):  # content that is not JSON is not written
                count += len(encode_json(content))
    return count
