"""Text of the open block is appended on the fast path and on the general path. Watchers get the same."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.turnlog.scripted import START, ListArchive, ListStore, Ticks, new_log
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import BlockDelta, BlockStart, ToolProgress, TurnEvent
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription

SECONDS = 10.0
pieces = st.text("aé🙂\n", min_size=1, max_size=6)


class Watched:
    """A log with block 0 open, and two watchers: one takes appended text at once, the other reads it."""

    def __init__(self) -> None:
        self.log: TurnLog = new_log(ring_limit=600)
        self.block = OpenBlock(0, 0, "text", None)
        self.log.show([START, BlockStart(0, "text")], self.block)
        self.taken = bytearray()
        self.asked = bytearray()
        archive = ListArchive(ListStore(Ticks()), Ticks())
        self._taking = Subscription(self.log, archive)
        self._asking = Subscription(self.log, archive)

    def take(self, data: bytes) -> bool:
        self.taken += data
        return True

    async def watch(self) -> None:
        async def by_taking() -> None:
            while (data := await self._taking.next(self.take)) is not None:
                self.taken += data

        async def by_asking() -> None:
            while (data := await self._asking.next()) is not None:
                self.asked += data

        await asyncio.gather(by_taking(), by_asking())


async def watched(steps: list[str | None], *, short: bool) -> tuple[bytes, bytes, int]:
    """Return the events of each of the two watchers, and the log's head. None: an event that is not text."""
    turn = Watched()
    watching = asyncio.ensure_future(turn.watch())
    async with asyncio.timeout(SECONDS):
        for step in steps:
            await asyncio.sleep(0)
            event: TurnEvent = ToolProgress("t", "…")
            if step is not None:
                turn.block.append(step)
                event = BlockDelta(0, "text", "text", step)
            if short and isinstance(event, BlockDelta):
                turn.log.grow(event)
            else:
                turn.log.append([event])
            for _ in range(3):
                await asyncio.sleep(0)
        turn.log.close()
        await watching
    return bytes(turn.taken), bytes(turn.asked), turn.log.head


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | pieces, max_size=12))
def test_the_fast_path_of_text_shows_the_same_events(steps: list[str | None]) -> None:
    short = asyncio.run(watched(steps, short=True))
    assert short == asyncio.run(watched(steps, short=False))
    assert short[0] == short[1]
