"""For every source, every end of its turn, and all joins, reads, cuts and resumes, each watcher ends with
exactly the stored blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.turnlog.scripted import ListArchive, ScriptedTurn, Ticks, new_log
from tests.turnlog.watching import Client, Knowledge
from turnstream.core.cursor import parse_cursor
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockReset, Data, Notice, Source, SourceEvent, ToolProgress
from turnstream.errors import StreamBroken
from turnstream.turnlog.base import History
from turnstream.turnlog.log import TurnLog
from turnstream.turnlog.subscription import Subscription
from turnstream.turns.executor import Executor

SECONDS = 20.0
INDEXES = st.integers(0, 2)
TEXTS = st.text("aé€🙂\r\n\u2028\ud83d\ude42", min_size=0, max_size=12)
CONTENTS = st.sampled_from([{"citations": [1]}, {"citations": [2, 3]}, {"note": "new"}, {"redacted": "xyz"}])

STREAM_EVENTS: st.SearchStrategy[SourceEvent] = st.one_of(
    st.builds(TextDelta, INDEXES, TEXTS),
    st.builds(TextDelta, INDEXES, TEXTS),
    st.builds(TextDelta, st.just(0), TEXTS),
    st.builds(ThinkingDelta, INDEXES, TEXTS),
    st.builds(ToolInputDelta, INDEXES, TEXTS),
    st.builds(SignatureDelta, INDEXES, st.sampled_from(["sig", "nature"])),
    st.builds(ContentDelta, INDEXES, CONTENTS),
    st.builds(
        ContentBlockStart,
        INDEXES,
        st.sampled_from(["text", "thinking", "tool_use", "tool_result", "provider"]),
        st.none() | st.just({"tool_use_id": "t", "tool_name": "n"}),
    ),
    st.builds(ContentBlockStop, INDEXES),
)
OWN_EVENTS: st.SearchStrategy[SourceEvent] = st.one_of(
    st.builds(Data, st.just("progress"), st.integers(0, 9), st.booleans()),
    st.builds(Source, st.sampled_from(["s1", "s2"])),
    st.just(Notice("lasting", "kept")),
    st.just(ToolProgress("t", "…")),
    st.builds(BlockReset, st.integers(0, 3)),
    st.builds(BlockReset, st.integers(0, 3)),
)
BATCHES = st.lists(
    st.lists(st.one_of(*[STREAM_EVENTS] * 5, OWN_EVENTS), min_size=1, max_size=6), min_size=1, max_size=14
)
TICKS = st.lists(st.integers(0, 4), max_size=40)


class Action(NamedTuple):
    """One action of a watcher. `number` chooses a byte, or a moment of its past."""

    kind: Literal["tick", "read", "cut", "reload"]
    watcher: int
    number: int


ACTIONS = st.lists(
    st.builds(
        Action,
        st.sampled_from(["tick", "read", "read", "read", "cut", "reload"]),
        st.integers(0, 2),
        st.integers(0, 2000),
    ),
    max_size=60,
)


class Limits(NamedTuple):
    ring: int
    rest_piece: int
    page: int
    batch: int
    long_text: int
    large_frame: int
    part: int
    delta: int


LIMITS = st.builds(
    Limits,
    st.sampled_from([0, 300, 700, 64 * 1024]),
    st.integers(1, 20),
    st.sampled_from([1, 300, 32 * 1024]),
    st.sampled_from([1, 300, 64 * 1024]),
    st.sampled_from([0, 3, 10, 32 * 1024]),
    st.sampled_from([200, 300, 64 * 1024]),
    st.sampled_from([1, 40, 32 * 1024]),
    st.sampled_from([1, 5, 16 * 1024]),
)


class End(NamedTuple):
    """End of the turn before batch `number`: complete, a failure of its source, or an interrupt."""

    kind: Literal["complete", "error", "interrupt"]
    number: int


ENDS = st.builds(End, st.sampled_from(["complete", "complete", "error", "interrupt"]), st.integers(0, 14))


@dataclass
class Watcher:
    """A client, its subscription, and the bytes on their way between them."""

    client: Client
    turn: ScriptedTurn
    ticks: Ticks
    subscription: Subscription | None = None
    reading: asyncio.Task[bytes | None] | None = None
    on_the_way: bytes = b""
    closed: bool = False
    sink_takes: int = 0
    """Pieces that the connection still takes without a wait."""

    def take_at_once(self, data: bytes) -> bool:
        self.sink_takes -= 1
        if self.sink_takes < 0:
            return False
        self.on_the_way += data
        return True

    def connect(self, cursor: str | None) -> None:
        after = parse_cursor(cursor) if cursor is not None else None
        archive = ListArchive(self.turn.store, self.ticks)
        self.subscription = Subscription(self.turn.log, archive, after=after)
        self.closed = self.subscription.at_end

    def read(self, sink_takes: int = 0) -> None:
        """Take the bytes of the last read, and begin another, with a sink if it may take pieces."""
        if self.subscription is None:
            self.connect(None)
        if self.reading is not None and self.reading.done():
            data, self.reading = self.reading.result(), None
            self.closed = data is None
            self.client.receive(self.on_the_way)
            self.on_the_way = data or b""
        if self.reading is None and not self.closed:
            assert self.subscription is not None
            self.sink_takes = sink_takes
            coming = self.subscription.next(self.take_at_once if sink_takes else None)
            self.reading = asyncio.get_running_loop().create_task(coming)

    async def cut(self, byte: int, reload_at: int | None) -> None:
        await self.hang_up()
        self.client.receive(self.on_the_way[: byte % (len(self.on_the_way) + 1)])
        self.on_the_way = b""
        past = self.client.past
        knowledge = past[reload_at % len(past)] if reload_at is not None else None
        self.connect(self.client.reconnect(knowledge))

    async def hang_up(self) -> None:
        reading, self.reading = self.reading, None
        if reading is None:
            return
        if reading.done():
            self.on_the_way += reading.result() or b""
            return
        reading.cancel()
        await asyncio.wait([reading])

    async def read_to_the_end(self) -> None:
        while not self.closed:
            self.read()
            if self.reading is not None:
                await asyncio.wait([self.reading])
        self.client.receive(self.on_the_way)


async def play(turn: ScriptedTurn, actions: Sequence[Action], ticks: Sequence[int]) -> list[Watcher]:
    """Run the turn while the watchers act, then let all of them read to the end."""
    archive_ticks = Ticks(ticks)
    watchers = [Watcher(Client(), turn, archive_ticks) for _ in range(3)]
    task = turn.begin()
    await act(watchers, actions)
    await task
    for watcher in watchers:
        await watcher.read_to_the_end()
    return watchers


async def act(watchers: Sequence[Watcher], actions: Sequence[Action]) -> None:
    for action in actions:
        watcher = watchers[action.watcher]
        match action.kind:
            case "read":
                watcher.read(action.number % 4)
            case "cut" if watcher.subscription is not None:
                await watcher.cut(action.number, None)
            case "reload" if watcher.subscription is not None:
                await watcher.cut(0, action.number)
            case _:
                pass
        await asyncio.sleep(0)


def scripted(
    batches: Sequence[Sequence[SourceEvent]], limits: Limits, ticks: tuple[list[int], list[int]], end: End
) -> ScriptedTurn:
    def before_batch(executor: Executor, number: int) -> None:
        if number % 3 == 1:
            executor.notify(Notice("passing", "on"))
        if number == end.number and end.kind == "error":
            raise StreamBroken("the source broke")
        if number == end.number and end.kind == "interrupt":
            asyncio.get_running_loop().call_soon(executor.stop, "cancelled")

    return ScriptedTurn(
        batches,
        ring_limit=limits.ring,
        source_ticks=ticks[0],
        store_ticks=ticks[1],
        before_batch=before_batch,
    )


def check(turn: ScriptedTurn, known: Knowledge) -> None:
    """The property itself."""
    stored = sorted(turn.store.blocks, key=lambda row: row.block.sequence)
    assert known.blocks == [row.block for row in stored]
    lasting = [msgspec.json.decode(row.event) for row in sorted(turn.store.annotations, key=lambda r: r.seq)]
    shown: list[dict[str, Any]] = [{k: v for k, v in d.items() if k != "turn_id"} for d in known.lasting]
    assert shown == lasting
    assert known.fold.ending is not None
    assert known.fold.ending.data["status"] == turn.store.ends[0].outcome.status


def log_of_rows(turn: ScriptedTurn) -> TurnLog:
    """The log of an ended turn, made from its rows, with no event in memory."""
    log = new_log()
    assert turn.log.terminal is not None
    last, terminal = turn.log.terminal
    log = TurnLog(turn.log.turn_id, turn.log.generation, turn.log.encoder, head=last - 1)
    log.rebuilt(History(turn.log.start, tuple(turn.store.resets)), terminal)
    return log


async def resume(turn: ScriptedTurn, log: TurnLog, known: Knowledge) -> Client:
    """A client that reloads after the turn's end with an earlier state."""
    client = Client()
    cursor = client.reconnect(known)
    after = parse_cursor(cursor) if cursor is not None else None
    subscription = Subscription(log, ListArchive(turn.store, Ticks()), after=after)
    if not subscription.at_end:
        while (data := await subscription.next()) is not None:
            client.receive(data)
        assert len(client.terminal_events()) == 1
    return client


def patched(stack: ExitStack, limits: Limits) -> None:
    """Replace the real limits by small ones."""
    for name, value in {
        "turnlog.view.REST_PIECE": limits.rest_piece,
        "turnlog.view.BATCH_LIMIT": limits.batch,
        "turnlog.catch_up.PAGE_BYTES": limits.page,
        "turnlog.catch_up.PIECE_LENGTH": limits.rest_piece,
        "turnlog.catch_up.LONG_TEXT": limits.long_text,
        "turnlog.catch_up.TEXT_PIECE": 3 * limits.rest_piece,
        "turnlog.catch_up.LARGE_FRAME": limits.large_frame,
        "turnlog.open_pieces.LARGE_FRAME": limits.large_frame,
        "turnlog.open_pieces.SHORT_SIGNATURE": limits.long_text,
        "turnlog.log.SHORT_SIGNATURE": limits.long_text,
        "core.content_parts.PART_BYTES": limits.part,
        "core.open_block.DELTA_LENGTH": limits.delta,
        "core.accumulator.DELTA_LENGTH": limits.delta,
    }.items():
        stack.enter_context(patch(f"turnstream.{name}", value))


@pytest.mark.requirement("C1", "C2", "C3", "C4", "D7", "B5")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BATCHES, LIMITS, TICKS, TICKS, TICKS, ACTIONS, ENDS)
def test_every_watcher_ends_with_the_stored_blocks(
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
            watchers = await play(turn, actions, archive_ticks)
            for watcher in watchers:
                check(turn, watcher.client.now)
                assert len(watcher.client.terminal_events()) <= 1
            await check_every_cut(turn, watchers)

    async def check_every_cut(turn: ScriptedTurn, watchers: list[Watcher]) -> None:
        rows = log_of_rows(turn)
        for known in [known for watcher in watchers for known in watcher.client.past]:
            for log in (turn.log, rows):
                check(turn, (await resume(turn, log, known)).now)

    with ExitStack() as stack:
        patched(stack, limits)
        asyncio.run(example())
