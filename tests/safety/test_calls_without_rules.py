"""Without rules an event costs no call more than without the layer."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from types import FrameType

import pytest

from tests.model_loop.harnesses import ServerHarness
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStop,
    StreamEvent,
    TextDelta,
)
from turnstream.model_loop.accounts import TurnAccount
from turnstream.model_loop.driver import LoopDriver
from turnstream.model_loop.redacted_source import redacted_source
from turnstream.model_loop.sources import ForeignSource, TurnSource
from turnstream.safety.redaction import NO_REDACTION, Redaction


async def answer(deltas: int) -> AsyncGenerator[Sequence[StreamEvent], None]:
    yield [ContentBlockStart(0, "text")]
    for _ in range(deltas):
        yield [TextDelta(0, "word ")]
    yield [ContentBlockStop(0), MessageStop("end_turn")]


async def calls_of(source: TurnSource) -> int:
    """Return the calls of functions of turnstream that a turn of `source` makes."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "/turnstream/" in frame.f_code.co_filename

    driver = LoopDriver(ServerHarness().sink, TurnAccount())
    sys.setprofile(count)
    try:
        await driver.run(source)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.requirement("K1")
async def test_an_event_makes_the_calls_that_it_makes_without_the_layer() -> None:
    per_event: dict[str, float] = {}
    for name, redaction in (("none", None), ("no rules", NO_REDACTION), ("rules", Redaction(["email"]))):
        counts: list[int] = []
        for deltas in (100, 300):
            source: TurnSource = ForeignSource(answer(deltas))
            counts.append(await calls_of(source if redaction is None else redacted_source(source, redaction)))
        per_event[name] = (counts[1] - counts[0]) / 200
    assert per_event["no rules"] == per_event["none"]
    assert per_event["rules"] > per_event["none"] + 3, "the count sees the layer"
