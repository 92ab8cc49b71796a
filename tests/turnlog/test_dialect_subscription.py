"""Watchers of a dialect whose frames depend on earlier events end with the stored blocks."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from tests.turnlog.dialect_watching import play
from tests.turnlog.scripted import ListArchive, ScriptedTurn, Ticks, new_log
from tests.turnlog.test_dialect_frames import growing, say
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    SECONDS,
    TICKS,
    Action,
    End,
    Limits,
    patched,
    scripted,
)
from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockCatchup,
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    SourceEvent,
    TurnCancelled,
    TurnComplete,
    TurnError,
    TurnEvent,
    TurnStart,
)
from turnstream.store.base import BlockRecord
from turnstream.turnlog.dialect_chain import DialectChain
from turnstream.turnlog.dialect_subscription import DialectSubscription


class Lines:
    """A dialect of JSON lines that may only append to a block, like most client protocols.

    Its state is the index of the open block, None between blocks, and "over" at the end.
    """

    name = "lines"

    def begin(self) -> object:
        return None

    def is_over(self, state: object) -> bool:
        return state == "over"

    def settle(self, state: object) -> tuple[bytes, object]:
        return b"", state

    def is_settled(self, state: object) -> bool:
        return True

    def needs_replay(self, state: object) -> bool:
        return False

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        lines, state = self._lines(state, event)
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines), state

    def _lines(self, state: object, event: TurnEvent) -> tuple[list[dict[str, Any]], object]:
        match event:
            case TurnStart():
                return [{"begin": event.chat_id}], None
            case BlockStart(index, block_type, content):
                return [{"start": index, "type": block_type, "content": content}], index
            case BlockDelta():
                assert event.block_index == state
                return [{"field": event.field, "value": event.value}], state
            case BlockStop():
                assert event.block_index == state
                return [{"stop": event.partial}], None
            case BlockCatchup(index, block_type):
                return self._catch_up(state, event, index, block_type)
            case BlockReset(index) | Notice(code="truncated", block_index=int(index)):
                return [{"drop": index}], None if isinstance(state, int) and state >= index else state
            case TurnComplete() | TurnError() | TurnCancelled():
                return [{"end": event.status}], "over"
            case _:
                return [], state

    def _catch_up(
        self, state: object, event: BlockCatchup, index: int, block_type: str
    ) -> tuple[list[dict[str, Any]], object]:
        lines: list[dict[str, Any]] = [{"start": index, "type": block_type, "content": event.content}]
        if state == index:
            lines = [{"content": event.content}]
        text = event.input_partial if block_type == "tool_use" else event.accumulated_text
        lines.append({"field": "text", "value": text or ""})
        if not event.complete:
            return lines, index
        return [*lines, {"stop": event.partial}], None


class LinesFold:
    """A client of that dialect."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.open: OpenBlock | None = None
        self.ends: list[str] = []
        self.deltas = 0

    def receive(self, data: bytes) -> None:
        for line in data.splitlines():
            assert not self.ends, f"{line!r} after the end"
            self._fold(json.loads(line))

    def _fold(self, line: dict[str, Any]) -> None:
        if "start" in line:
            assert self.open is None
            assert line["start"] not in self.blocks
            self.open = OpenBlock(line["start"], 0, line["type"], None)
            self.open.replace_content(line["content"] or {})
        elif "content" in line:
            assert self.open is not None
            self.open.replace_content(line["content"] or {})
        elif "field" in line:
            self.deltas += 1
            assert self.open is not None
            if line["field"] == "content":
                self.open.merge(line["value"])
            elif line["field"] == "signature":
                self.open.sign(line["value"])
            else:
                self.open.append(line["value"])
        elif "stop" in line:
            assert self.open is not None
            self.blocks[self.open.sequence] = self.open.finish(partial=line["stop"])
            self.open = None
        elif "drop" in line:
            if self.open is not None and self.open.sequence >= line["drop"]:
                self.open = None
            self.blocks = {index: block for index, block in self.blocks.items() if index < line["drop"]}
        elif "end" in line:
            self.ends.append(line["end"])


def check(turn: ScriptedTurn, fold: LinesFold) -> None:
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    assert fold.open is None
    assert [block for _, block in sorted(fold.blocks.items())] == stored
    assert fold.ends == [turn.store.ends[0].outcome.status]


@pytest.mark.requirement("P2", "N3")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BATCHES, LIMITS, TICKS, TICKS, TICKS, ACTIONS, ENDS)
def test_every_watcher_of_a_dialect_ends_with_the_stored_blocks(
    batches: list[list[SourceEvent]],
    limits: Limits,
    source_ticks: list[int],
    store_ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(batches, limits, (source_ticks, store_ticks), end)
            watchers = await play(turn, actions, archive_ticks, lambda: (Lines(), LinesFold()))
            for watcher in watchers:
                check(turn, cast("LinesFold", watcher.fold))
                assert watcher.subscription.at_end
                assert watcher.subscription.has_all

    with ExitStack() as stack:
        patched(stack, limits)
        asyncio.run(example())


async def test_a_watcher_that_falls_off_the_ring_gets_only_the_rest_though_the_content_changed() -> None:
    log, fold = growing("one ", ring_limit=300), LinesFold()
    subscription = DialectSubscription(log, ListArchive(ScriptedTurn([]).store, Ticks()), Lines())
    while fold.open is None:
        fold.receive(await subscription.next() or b"")
    block = cast("OpenBlock", log.open_block)
    block.merge({"citations": [1]})
    log.show([BlockDelta(0, "text", "content", {"citations": [1]})], block)
    say(log, *["more "] * 100)
    assert not log.covers(4)
    fold.receive(await subscription.next() or b"")
    assert fold.open.text() == "one " + "more " * 100
    assert fold.open.content == {"citations": [1]}
    assert fold.deltas == 2


async def test_watchers_share_the_frames_of_new_events() -> None:
    log, archive = growing("one"), ListArchive(ScriptedTurn([]).store, Ticks())
    made: list[int] = []

    class Counting(Lines):
        def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
            made.append(seq)
            return super().encode(state, seq, event)

    subscriptions = [DialectSubscription(log, archive, Counting()) for _ in range(3)]
    first = [await subscription.next() for subscription in subscriptions]
    say(log, "two")
    second = [await subscription.next() for subscription in subscriptions]
    assert (len(set(first)), len(set(second))) == (1, 1)
    assert made == [1, 2, 3, 4]


async def test_a_chain_goes_on_with_the_state_of_the_turn_before() -> None:
    ended, running = growing("one"), growing("two")
    archive = ListArchive(ScriptedTurn([]).store, Ticks())
    block = cast("OpenBlock", ended.open_block)
    ended.block_stored(BlockStop(0, "text"), None)
    ended.ended([], TurnCancelled(0))
    assert block.text() == "one"

    class Part(Lines):
        """The encoder of a turn that does not end the stream. Its state is the number of texts."""

        name = "part"

        def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
            counted = (cast("int | None", state) or 0) + isinstance(event, BlockDelta)
            return msgspec.json.encode(counted) + b"\n", counted

    async def rest(state: object) -> DialectSubscription:
        return DialectSubscription(running, archive, Part(), state=state)

    chain = DialectChain(DialectSubscription(ended, archive, Part()), [rest])
    assert await chain.next() == b"0\n0\n1\n1\n1\n"
    assert await chain.next() == b"1\n1\n2\n"
    running.close()
    assert await chain.next() is None
    assert new_log().head == 0


class Snapshots(Lines):
    """A dialect that joins by a snapshot, and sends another after text was retracted.

    Its state is the state of `Lines`, or the lines of its snapshot, or "lost".
    """

    name = "snapshots"

    def begin(self) -> object:
        return ()

    def needs_replay(self, state: object) -> bool:
        return state == "lost"

    def is_settled(self, state: object) -> bool:
        return not isinstance(state, tuple) or not state

    def settle(self, state: object) -> tuple[bytes, object]:
        lines, inner = cast("tuple[tuple[dict[str, Any], ...], object]", state)
        return json.dumps({"snapshot": lines}).encode() + b"\n", inner

    def encode(self, state: object, seq: int, event: TurnEvent) -> tuple[bytes, object]:
        if state == "lost" and not isinstance(event, TurnStart):
            return b"", state
        if state in ((), "lost"):
            state = ((), None)
        if isinstance(state, tuple):  # a catch-up
            lines, inner = cast("tuple[tuple[dict[str, Any], ...], object]", state)
            more, inner = self._lines(inner, event)
            return b"", ((*lines, *more), inner)
        if isinstance(event, BlockReset):
            return b"", "lost"
        return super().encode(state, seq, event)


class SnapshotsFold(LinesFold):
    def __init__(self) -> None:
        super().__init__()
        self.snapshots = 0

    def _fold(self, line: dict[str, Any]) -> None:
        if "snapshot" not in line:
            assert "drop" not in line, "only a snapshot takes something back"
            super()._fold(line)
            return
        self.snapshots += 1
        self.blocks, self.open = {}, None
        for shown in line["snapshot"]:
            super()._fold(shown)


async def test_a_dialect_with_snapshots_joins_by_one_and_takes_back_by_another() -> None:
    log, fold = growing("one", "two"), SnapshotsFold()
    store = ScriptedTurn([]).store
    subscription = DialectSubscription(log, ListArchive(store, Ticks()), Snapshots(), is_exact=False)

    def take(data: bytes) -> bool:
        fold.receive(data)
        return True

    reading = asyncio.get_running_loop().create_task(subscription.next(take))
    fold.receive(await reading or b"")
    assert fold.open is not None
    assert (fold.snapshots, fold.open.text()) == (1, "onetwo")
    reading = asyncio.get_running_loop().create_task(subscription.next(take))
    await asyncio.sleep(0)
    say(log, "three")
    assert fold.open.text() == "onetwothree"
    log.retracted(BlockReset(0), None)
    block = OpenBlock(0, 0, "text", None)
    log.show([BlockStart(0, "text")], block)
    say(log, "again")
    fold.receive(await reading or b"")
    while fold.open.text() != "again":
        fold.receive(await subscription.next() or b"")
    assert fold.snapshots == 2
    log.block_stored(BlockStop(0, "text"), None)
    store.blocks.append(BlockRecord("b0", log.turn_id, block.finish(), log.open_first_seq, log.stored_seq, 0))
    log.ended([], TurnCancelled(1))
    while (data := await subscription.next()) is not None:
        fold.receive(data)
    assert [block.text_content for block in fold.blocks.values()] == ["again"]
    assert fold.ends == ["cancelled"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BATCHES, LIMITS, TICKS, TICKS, ACTIONS, ENDS)
def test_every_watcher_of_snapshots_ends_with_the_stored_blocks(
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(batches, limits, (ticks, ticks), end)
            joining = lambda: (Snapshots(), SnapshotsFold())  # noqa: E731
            for watcher in await play(turn, actions, archive_ticks, joining, exact=False):
                check(turn, cast("LinesFold", watcher.fold))

    with ExitStack() as stack:
        patched(stack, limits)
        asyncio.run(example())
