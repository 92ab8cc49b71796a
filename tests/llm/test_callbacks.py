"""Callbacks of a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

import turnstream as ts
from tests.llm.conftest import ONCE
from turnstream.core.turn_events import TurnEvent
from turnstream.llm import callbacks as module

pytestmark = pytest.mark.requirement("F3")
DEADLINE = 10.0


def llm(model: str = "sim/demo:pace=0") -> ts.LLM:
    return ts.LLM(model, settings=ONCE)


class Told:
    """Records the calls."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.events: list[TurnEvent] = []
        self.batches: list[Sequence[TurnEvent]] = []

    def on_start(self, stream_id: str) -> None:
        self.told.append(("start", stream_id))

    def on_event(self, event: TurnEvent) -> None:
        self.events.append(event)

    def on_events(self, events: Sequence[TurnEvent]) -> None:
        self.batches.append(events)

    def on_complete(self, message: ts.ModelMessage[Any], usage: ts.Usage, metrics: ts.StreamMetrics) -> None:
        self.told.append(("complete", message, usage, metrics))

    def on_error(self, error: BaseException) -> None:
        self.told.append(("error", error))

    def callbacks(self, batching: ts.Batching | None = None) -> ts.Callbacks:
        return ts.Callbacks(
            self.on_start, self.on_event, self.on_events, self.on_complete, self.on_error, batching
        )


async def test_a_whole_answer_is_told_from_start_to_end() -> None:
    told = Told()
    async with llm().stream("hello", callbacks=told.callbacks()) as stream:
        text = "".join([piece async for piece in stream.text])
    start, complete = told.told
    assert start == ("start", stream.id)
    _, message, usage, metrics = complete
    assert message.text == text
    assert message.complete
    assert usage == message.usage
    assert metrics.characters == len(text)
    assert 0 < metrics.first_output <= metrics.duration
    assert metrics.characters_per_second > 0
    assert isinstance(told.events[0], ts.StepStart)
    assert isinstance(told.events[-1], ts.TurnComplete)
    assert [event for batch in told.batches for event in batch] == told.events


async def test_without_other_readers_the_callbacks_read() -> None:
    told, complete = Told(), asyncio.Event()
    callbacks = ts.Callbacks(on_event=told.on_event, on_complete=lambda *_: complete.set())
    async with asyncio.timeout(DEADLINE):
        async with llm("sim/story:events=3000,pace=0.000001").stream("go", callbacks=callbacks) as stream:
            await complete.wait()
    said = "".join(e.value for e in told.events if isinstance(e, ts.BlockDelta))
    assert said == stream.message.text


async def test_they_may_be_async_and_are_called_in_order() -> None:
    order: list[str] = []

    async def on_event(event: TurnEvent) -> None:
        order.append(f"{type(event).__name__} begins")
        await asyncio.sleep(0)
        order.append(f"{type(event).__name__} ends")

    async def on_complete(*_arguments: object) -> None:
        await asyncio.sleep(0)
        order.append("complete")

    callbacks = ts.Callbacks(on_event=on_event, on_complete=on_complete)
    async with llm("sim/echo:pace=0").stream("a b c", callbacks=callbacks) as stream:
        await stream.final_message()
    assert order[-1] == "complete"
    assert order[:2] == ["StepStart begins", "StepStart ends"]
    assert all(
        begins.replace("begins", "ends") == ends
        for begins, ends in zip(order[:-1:2], order[1::2], strict=True)
    )


async def test_one_that_fails_is_logged_and_kills_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_arguments: object) -> None:
        raise ValueError("in a callback")

    async def fails_later(*_arguments: object) -> None:
        await asyncio.sleep(0)
        raise KeyError("later")

    told = Told()
    callbacks = ts.Callbacks(fails, fails_later, fails, fails, told.on_error)
    with caplog.at_level(logging.ERROR):
        async with llm("sim/echo:pace=0").stream("a b", callbacks=callbacks) as stream:
            message = await stream.final_message()
    assert message.text == "a b"
    assert told.told == [], "a callback that fails is no error of the stream"
    assert sum("a callback failed" in record.message for record in caplog.records) > 5
    assert stream.id in caplog.text


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim/demo:fault=cut,after=5,pace=0", ts.StreamIncomplete),
        ("sim/demo:fault=error-before,status=429", ts.RateLimited),
    ],
)
async def test_errors_are_told_before_and_in_mid_stream(model: str, error: type[Exception]) -> None:
    told = Told()
    with pytest.raises(error) as raised:
        await llm(model).collect("hello", callbacks=told.callbacks())
    assert [entry[0] for entry in told.told] == ["start", "error"]
    assert told.told[1][1] is raised.value


async def test_a_call_that_cannot_even_be_made_is_told_too() -> None:
    told = Told()
    model = ts.LLM("anthropic/claude-sonnet-5-5", settings=ONCE)
    with pytest.raises(ts.AuthenticationFailed) as raised:
        await model.collect("hello", callbacks=told.callbacks())
    assert told.told[-1] == ("error", raised.value)
    assert raised.value.partial is not None
    assert raised.value.partial.blocks == ()


async def test_a_stream_that_is_left_and_an_answer_of_another_type_are_errors() -> None:
    told = Told()
    async with llm("sim/story:events=9999,pace=0.001").stream("go", callbacks=told.callbacks()) as stream:
        await anext(stream.text)
    assert isinstance(told.told[-1][1], ts.StreamClosed)
    told = Told()
    with pytest.raises(ts.InvalidOutput):
        await llm("sim/echo:pace=0").collect(
            "x", output=int, output_mode="schema", callbacks=told.callbacks()
        )
    assert isinstance(told.told[-1][1], ts.InvalidOutput)


async def test_events_may_be_told_in_batches() -> None:
    told = Told()
    callbacks = ts.Callbacks(on_events=told.on_events, batching=ts.Batching(max_events=10, interval=5.0))
    async with asyncio.timeout(DEADLINE):
        async with llm("sim/story:events=200,pace=0.0001").stream("go", callbacks=callbacks) as stream:
            await stream.final_message()
    sizes = [len(batch) for batch in told.batches]
    assert max(sizes) == 10, "a batch has at most as many events as were asked for"
    assert sum(sizes) >= 200
    assert isinstance(told.batches[-1][-1], ts.TurnComplete)


async def test_a_batch_that_is_not_full_comes_after_its_time() -> None:
    """The model is silent after some events. The callbacks still get the last events."""
    told, heard = Told(), asyncio.Event()

    def on_events(events: Sequence[TurnEvent]) -> None:
        told.on_events(events)
        if len(told.batches) > 1 and any(isinstance(event, ts.BlockDelta) for event in events):
            heard.set()

    callbacks = ts.Callbacks(on_events=on_events, batching=ts.Batching(max_events=1000))
    model = "sim/story:fault=silence,after=6,pace=0.02"
    async with asyncio.timeout(DEADLINE), llm(model).stream("go", callbacks=callbacks) as stream:
        await heard.wait()
        assert stream.running


async def test_a_slow_one_does_not_hold_up_the_stream_and_has_an_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CALLBACK_SECONDS", 0.05)
    cancelled = asyncio.Event()

    async def never(_event: TurnEvent) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with asyncio.timeout(DEADLINE):
        async with llm().stream("hello", callbacks=ts.Callbacks(on_event=never)) as stream:
            assert await stream.final_text()
            assert not cancelled.is_set()
    assert cancelled.is_set()
    assert "did not end" in caplog.text


@pytest.mark.requirement("F4")
async def test_updates_for_a_screen_come_at_its_own_pace() -> None:
    settings = ts.Settings.model_validate({"stream": {"update_interval": 30, "update_buffer": 50}})
    model = ts.LLM("sim/story:events=500,pace=0.0001", settings=settings)
    async with asyncio.timeout(DEADLINE), model.stream("go") as stream:
        updates = [update async for update in stream.updates()]
        assert [len(events) >= 50 for events in updates[1:-1]] == [True] * (len(updates) - 2)
        assert 5 < len(updates) <= 12
        assert [len(blocks) async for blocks in stream.blocks] == [1]
