"""Retracted text in the UI message streams of major 7. The kept parts are shown again."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from tests.dialects.ui_fold import UiMessageFold
from tests.turnlog.dialect_watching import play
from tests.turnlog.scripted import START, TURN_ID, ListArchive, ScriptedTurn, Ticks, new_log
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
from turnstream.core.open_block import OpenBlock
from turnstream.core.stream_events import ContentBlockStart
from turnstream.core.turn_events import (
    BlockDelta,
    BlockReset,
    BlockStart,
    BlockStop,
    Data,
    Notice,
    Source,
    SourceEvent,
    StepStart,
    TurnCancelled,
)
from turnstream.dialects.ai_sdk.encoder import encoder_of
from turnstream.store.base import Annotation, BlockRecord
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turnlog.log import TurnLog


def without_results(batches: list[list[SourceEvent]]) -> list[list[SourceEvent]]:
    """The batches without results of tools, which would begin another step."""
    kept = [
        [
            event
            for event in batch
            if not (isinstance(event, ContentBlockStart) and event.block_type == "tool_result")
        ]
        for batch in batches
    ]
    return [batch for batch in kept if batch]


@pytest.mark.requirement("P2", "P5", "N3")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, limits=LIMITS, ticks=TICKS, archive_ticks=TICKS, actions=ACTIONS, end=ENDS)
def test_every_stream_of_one_step_shows_what_is_kept_and_nothing_else(
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(without_results(batches), limits, (ticks, ticks), end)
            watchers = await play(
                turn, actions, archive_ticks, lambda: (encoder_of(TURN_ID, TURN_ID, 7), UiMessageFold(7))
            )
            for watcher in watchers:
                check(turn, cast("UiMessageFold", watcher.fold))

    with ExitStack() as stack:
        patched(stack, limits._replace(part=32 * 1024))  # a call's id and name are never apart
        asyncio.run(example())


def check(turn: ScriptedTurn, fold: UiMessageFold) -> None:
    assert fold.done
    stored = sorted((row.block for row in turn.store.blocks), key=lambda block: block.sequence)
    for block_type, kind in (("text", "text"), ("thinking", "reasoning"), ("tool_use", "tool")):
        shown = [part["text"] for part in fold.parts if part["type"] == kind]
        if kind == "tool":
            assert len(shown) == sum(block.block_type == block_type for block in stored)
        else:
            assert shown == [block.text_content or "" for block in stored if block.block_type == block_type]
    data = [part["data"] for part in fold.parts if part["type"] == "data-progress"]
    assert sorted(data) == sorted(data_of(turn.store.annotations))
    endings = {"complete": {"stop", "other", "tool-calls"}, "error": {"error"}, "cancelled": {"abort"}}
    assert fold.ending in endings[turn.store.ends[0].outcome.status]


def data_of(annotations: list[Annotation]) -> list[int]:
    events = [msgspec.json.decode(row.event, type=Data | Notice | Source) for row in annotations]
    return [event.data for event in events if isinstance(event, Data)]


class Step:
    """A step with a kept text and a datum, whose second block is being written. A client watches it."""

    def __init__(self) -> None:
        self.log: TurnLog = new_log()
        self.store = ScriptedTurn([]).store
        self.fold = UiMessageFold(7)
        archive = ListArchive(self.store, Ticks())
        self.subscription = DialectSubscription(self.log, archive, encoder_of(TURN_ID, "m", 7))
        self.log.append([START, StepStart(0)])
        self.write(0, "kept")
        self.close_block()
        datum = Data("weather", 3)
        self.store.annotations.append(Annotation(TURN_ID, self.log.head + 1, msgspec.json.encode(datum)))
        self.log.event_stored(datum)
        self.write(1, "wrong")

    def write(self, index: int, text: str) -> None:
        block = OpenBlock(index, index, "text", None)
        self.log.show([BlockStart(index, "text")], block)
        block.append(text)
        self.log.show([BlockDelta(index, "text", "text", text)], block)

    def close_block(self) -> None:
        block = self.log.open_block
        assert block is not None
        row = BlockRecord(
            f"b{block.sequence}", TURN_ID, block.finish(), self.log.open_first_seq, self.log.head + 1, 0
        )
        self.store.blocks.append(row)
        self.log.block_stored(BlockStop(block.sequence, "text"), None)

    async def read(self) -> None:
        while isinstance(data := await self.subscription.ready(), bytes):
            self.fold.receive(data)


async def test_later_blocks_are_retracted_and_the_parts_before_them_are_shown_again() -> None:
    step = Step()
    await step.read()
    assert step.fold.texts("text") == ["kept", "wrong"]
    step.log.retracted(BlockReset(1), None)
    await step.read()
    assert [part["type"] for part in step.fold.parts] == ["step-start", "text", "data-weather"]
    await step.read()
    step.write(1, "right")
    await step.read()
    assert step.fold.texts("text") == ["kept", "right"]
    assert not step.subscription.is_exact
    step.close_block()
    step.log.ended([], TurnCancelled(2))
    await step.read()
    assert step.fold.texts("text") == ["kept", "right"]
    assert [part["type"] for part in step.fold.parts].count("data-weather") == 1
    assert step.fold.ending == "abort"


async def test_a_whole_step_without_other_parts_is_retracted_without_a_replay() -> None:
    log, fold = new_log(), UiMessageFold(7)
    subscription = DialectSubscription(
        log, ListArchive(ScriptedTurn([]).store, Ticks()), encoder_of(TURN_ID, "m", 7)
    )
    block = OpenBlock(0, 0, "text", None)
    log.append([START, StepStart(0)])
    log.show([BlockStart(0, "text"), BlockDelta(0, "text", "text", "wrong")], block)
    log.retracted(BlockReset(0), None)
    log.show([BlockStart(0, "text"), BlockDelta(0, "text", "text", "right")], block)
    while isinstance(data := await subscription.ready(), bytes):
        fold.receive(data)
    assert fold.texts("text") == ["right"]
    assert subscription.is_exact
