"""The contract of the model loop's driver with its sinks: one suite, for the server's and the library's."""

# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false
# pyright: reportAssignmentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.model_loop.harnesses import Harness, LibraryHarness, ServerHarness
from turnstream.core.accumulator import RESUMED, Accumulator
from turnstream.core.blocks import Block
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, MessageStop, TextDelta
from turnstream.core.turn_events import (
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Notice,
    StepStart,
    StepStop,
    TurnEvent,
)
from turnstream.errors import ConnectionFailed, StreamIncomplete, TurnstreamError
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.memory_sink import MemorySink
from turnstream.model_loop.accounts import TurnAccount
from turnstream.model_loop.driver import LoopDriver
from turnstream.model_loop.position import LoopPosition
from turnstream.model_loop.sources import Batches, StepFailure, StepRecovery, Stream, TurnSource
from turnstream.providers.base import CalledModel, Take

SECONDS = 10.0
END = MessageStop("end_turn")


@pytest.fixture(params=[ServerHarness, LibraryHarness], ids=["server", "library"])
async def harness(request: pytest.FixtureRequest) -> Harness:
    return request.param()


Script = Sequence[Any]
"""Batches; an exception is raised in its place. A `Halt` never ends."""


class Halt:
    """The place of a script where a source says nothing more. `reached`: set once it is there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()


class ScriptedSource(TurnSource):
    """Says one script per call, in turn: of steps, of results, of recoveries."""

    needs_end_marker = True
    called = CalledModel("p", "m", "w")

    def __init__(
        self, steps: Sequence[Script], recoveries: Sequence[Script] = (), results: Sequence[Script] = ()
    ) -> None:
        self.steps = list(steps)
        self.recoveries = list(recoveries)
        self.tool_results = list(results)
        self.failures: list[StepFailure] = []
        self.numbers: list[int] = []
        self.forgotten: list[int] = []
        self.whole: list[int] = []
        self.left = 0

    def step(self, number: int) -> Stream | None:
        self.numbers.append(number)
        return self.stream(self.steps.pop(0)) if self.steps else None

    def results(self, stop: MessageStop | None) -> Stream | None:
        return self.stream(self.tool_results.pop(0)) if self.tool_results else None

    async def recover(self, broken: StepFailure) -> StepRecovery:
        self.failures.append(broken)
        if not self.recoveries:
            raise broken.failure
        return StepRecovery(self.stream(self.recoveries.pop(0)), Notice("continued", "again"), no_pause)

    def stored(self, block: Block) -> None:
        self.whole.append(block.sequence)

    def note_retracted(self, sequence: int) -> None:
        self.forgotten.append(sequence)

    @asynccontextmanager
    async def stream(self, script: Script) -> AsyncIterator[Batches]:
        try:
            yield said(script)
        finally:
            self.left += 1


async def no_pause() -> None: ...


async def said(script: Script) -> AsyncIterator[Sequence[Any]]:
    for batch in script:
        if isinstance(batch, BaseException):
            raise batch
        if isinstance(batch, Halt):
            batch.reached.set()
            await asyncio.Event().wait()
        else:
            yield batch


def text(index: int, *pieces: str) -> list[Any]:
    return [
        ContentBlockStart(index, "text"),
        *(TextDelta(index, piece) for piece in pieces),
        ContentBlockStop(index),
    ]


def words(sequence: int, value: str) -> list[TurnEvent]:
    return [
        BlockStart(sequence, "text", None),
        BlockDelta(sequence, "text", "text", value),
        BlockStop(sequence, "text"),
    ]


async def run(
    harness: Harness,
    source: TurnSource,
    position: LoopPosition | None = None,
    account: TurnAccount | None = None,
) -> tuple[LoopDriver, str | None]:
    driver = LoopDriver(harness.sink, account or TurnAccount(), position)
    async with asyncio.timeout(SECONDS):
        return driver, await driver.run(source)


async def test_steps_and_the_results_of_tools_come_in_order(harness: Harness) -> None:
    result = [ContentBlockStart(0, "tool_result", {"tool_use_id": "t"}), ContentBlockStop(0)]
    source = ScriptedSource([[text(0, "one"), [END]], [text(0, "two"), [END]]], results=[[result]])
    _, reason = await run(harness, source)
    assert reason == "end_turn"
    shown = harness.shown()
    assert shown[:4] == [StepStart(0), *words(0, "one")]
    assert [type(event) for event in shown[4:7]] == [BlockStart, BlockStop, StepStop]
    assert shown[7:] == [StepStart(1), *words(2, "two"), StepStop(1, "end_turn")]
    assert [block.sequence for block in harness.kept()] == source.whole == [0, 1, 2]
    assert (source.numbers, source.left) == ([0, 1, 2], 3)


async def test_a_call_that_fails_is_continued_where_it_broke_off(harness: Harness) -> None:
    half = [ContentBlockStart(0, "text"), TextDelta(0, "half ")]
    source = ScriptedSource(
        [[text(9, "whole"), half, ConnectionFailed("gone")]],
        [[[TextDelta(RESUMED, "and half"), ContentBlockStop(RESUMED)], [END]]],
    )
    driver, _ = await run(harness, source)
    shown = harness.shown()
    assert [event for event in shown if isinstance(event, StepStart)] == [StepStart(0)]
    assert shown.index(Notice("continued", "again")) < len(shown) - 3
    assert [block.text_content for block in harness.kept()] == ["whole", "half and half"]
    (failure,) = source.failures
    assert (failure.first, failure.shown) == (0, 2)
    assert failure.open_block is not None
    assert failure.open_block.text_content == "half "
    assert [call.outcome for call in driver.account.calls] == ["connection_error", "complete"]
    assert driver.recovered is failure.failure


@pytest.mark.parametrize(
    "script", [[text(0, "a"), ConnectionFailed("gone")], [text(0, "a")]], ids=["failure", "no end"]
)
async def test_what_cannot_be_recovered_is_raised(harness: Harness, script: Script) -> None:
    source = ScriptedSource([script])
    with pytest.raises((ConnectionFailed, StreamIncomplete)) as raised:
        await run(harness, source)
    assert [failure.failure for failure in source.failures] == [raised.value]
    assert (harness.kept()[0].text_content, source.left) == ("a", 1)


async def test_only_a_failure_of_the_provider_is_recovered(harness: Harness) -> None:
    source = ScriptedSource([[text(0, "a"), ValueError("of the source")]], [[[END]]])
    with pytest.raises(ValueError, match="of the source"):
        await run(harness, source)
    assert (source.failures, source.left) == ([], 1)


async def test_a_reset_retracts_what_was_shown_and_is_silent_of_the_rest(harness: Harness) -> None:
    script = [text(0, "a"), text(1, "b"), [BlockReset(1)], [BlockReset(5)], text(2, "c"), [END]]
    source = ScriptedSource([script])
    await run(harness, source)
    resets = [event.block_index for event in harness.shown() if isinstance(event, BlockReset)]
    assert (resets, source.forgotten) == ([1], [1, 5])
    assert [(block.sequence, block.text_content) for block in harness.kept()] == [(0, "a"), (1, "c")]


def continued_block(sequence: int, written: str) -> OpenBlock:
    accumulator = Accumulator(sequence)
    accumulator.fold([ContentBlockStart(0, "text"), TextDelta(0, written)])
    assert accumulator.shown is not None
    return accumulator.shown


async def test_a_driver_begins_in_the_middle_of_a_turn(harness: Harness) -> None:
    account = TurnAccount()
    account.begin(2, CalledModel("p", "lost", "w"))
    account.lose()
    script = [[TextDelta(RESUMED, "def"), ContentBlockStop(RESUMED)], text(3, "more"), [END]]
    source = ScriptedSource([script, [text(0, "next"), [END]]])
    position = LoopPosition(2, 4, 5, continued_block(5, "abc"), step_shown=True)
    _, reason = await run(harness, source, position, account)
    assert (reason, source.numbers) == ("end_turn", [2, 3, 4])
    assert harness.shown() == [
        BlockDelta(5, "text", "text", "def"),
        BlockStop(5, "text"),
        *words(6, "more"),
        StepStop(2, "end_turn"),
        StepStart(3),
        *words(7, "next"),
        StepStop(3, "end_turn"),
    ]
    assert [block.text_content for block in harness.kept()] == ["abcdef", "more", "next"]
    assert [(call.number, call.attempt) for call in account.calls] == [(2, 1), (2, 2), (3, 1)]


async def test_a_failure_after_a_begin_in_the_middle_counts_the_blocks_of_the_step(harness: Harness) -> None:
    source = ScriptedSource([[[TextDelta(RESUMED, "d")], ConnectionFailed("gone")]])
    with pytest.raises(ConnectionFailed):
        await run(harness, source, LoopPosition(1, 3, 5, continued_block(5, "abc")))
    (failure,) = source.failures
    assert (failure.first, failure.shown) == (3, 3)
    assert failure.open_block is not None
    assert failure.open_block.text_content == "abcd"


async def test_an_interrupt_cuts_where_the_source_is_waited_for(harness: Harness) -> None:
    halt = Halt()
    source = ScriptedSource([[text(0, "kept"), [ContentBlockStart(1, "text"), TextDelta(1, "open")], halt]])
    driver = LoopDriver(harness.sink, TurnAccount())
    task = asyncio.create_task(driver.run(source))
    async with asyncio.timeout(SECONDS):
        await halt.reached.wait()
        harness.interrupt(task)
        with pytest.raises(harness.stopped):
            await task
    assert source.left == 1
    assert [block.text_content for block in harness.kept()] == ["kept"]
    assert driver.accumulator.shown is not None
    assert driver.accumulator.shown.text() == "open"


async def test_a_source_that_cancels_itself_has_failed(harness: Harness) -> None:
    source = ScriptedSource([[text(0, "a"), asyncio.CancelledError()]])
    with pytest.raises(TurnstreamError, match="cancelled from within"):
        await run(harness, source)
    assert (source.failures, source.left) == ([], 1)


class PushedBatches:
    """Offers each batch to the sink's function first, as a socket does."""

    def __init__(self, batches: Sequence[Sequence[Any]]) -> None:
        self._batches = list(batches)
        self.take: Take = lambda _events: False
        self.returned = 0

    def push_to(self, take: Take) -> None:
        self.take = take

    def __aiter__(self) -> PushedBatches:
        return self

    async def __anext__(self) -> Sequence[Any]:
        while self._batches:
            batch = self._batches.pop(0)
            if not self.take(batch):
                self.returned += 1
                return batch
        raise StopAsyncIteration


class PushedSource(ScriptedSource):
    @asynccontextmanager
    async def stream(self, script: Script) -> AsyncIterator[Batches]:
        self.batches = PushedBatches(script)
        yield self.batches


async def test_text_that_is_pushed_is_shown_without_the_driver(harness: Harness) -> None:
    begin: list[Any] = [ContentBlockStart(0, "text"), TextDelta(0, "a")]
    source = PushedSource([[begin, [TextDelta(0, "b")], [TextDelta(0, "c")], [ContentBlockStop(0)], [END]]])
    await run(harness, source)
    assert source.batches.returned == 3
    deltas = [event.value for event in harness.shown() if isinstance(event, BlockDelta)]
    assert deltas == ["a", "b", "c"]
    assert [block.text_content for block in harness.kept()] == ["abc"]


def hold_back(harness: Harness) -> Callable[[], None]:
    """Make the sink not ready; return the function that makes it so."""
    if isinstance(harness, ServerHarness):
        harness.sink.committed.clear()
        return harness.sink.committed.set
    assert isinstance(harness, LibraryHarness)
    harness.live = LiveAnswer(0)
    harness.queue = harness.live.open_queue()
    harness.sink = MemorySink("s", harness.live)
    return harness.live.caught_up


async def test_nothing_is_shown_before_the_sink_is_ready(harness: Harness) -> None:
    make_ready = hold_back(harness)
    source = ScriptedSource([[text(0, "a"), [END]]])
    task = asyncio.create_task(LoopDriver(harness.sink, TurnAccount()).run(source))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (harness.shown(), task.done()) == ([], False)
    if isinstance(harness, LibraryHarness):
        harness.live._buffer = 1000
    make_ready()
    async with asyncio.timeout(SECONDS):
        assert await task == "end_turn"
    assert harness.shown() == [StepStart(0), *words(0, "a"), StepStop(0, "end_turn")]


async def test_an_error_of_the_sink_ends_the_run(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_item: object, _settle: object) -> None:
        raise RuntimeError("refused")

    monkeypatch.setattr(harness.sink, "keep", refuse)
    source = ScriptedSource([[text(0, "a"), [END]]], [[[END]]])
    with pytest.raises(RuntimeError, match="refused"):
        await run(harness, source)
    assert (source.failures, source.left, harness.kept()) == ([], 1, [])
