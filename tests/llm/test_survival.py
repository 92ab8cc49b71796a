"""The library over providers that fail: attempts, other models, continued and restarted answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import turnstream as ts
from turnstream.core.turn_events import TurnEvent

pytestmark = pytest.mark.requirement("F1", "J1")
DEADLINE = 20.0
QUICK = {"attempts": 2, "delay": 0.01, "spacing": 0.01}


def llm(model: str, *fallbacks: str, **settings: Any) -> ts.LLM:
    return ts.LLM(
        model, fallbacks=fallbacks, settings=ts.Settings.model_validate({"retry": QUICK, **settings})
    )


def codes(events: list[TurnEvent]) -> list[str]:
    return [event.code for event in events if isinstance(event, ts.Notice)]


async def test_a_fallback_answers_where_the_first_model_is_down() -> None:
    async with llm("sim/demo:fault=error-before,status=503", "sim/echo:pace=0").stream("hello") as stream:
        events = [event async for event in stream]
        message = await stream.final_message()
    assert (message.text, message.model) == ("hello", "echo:pace=0")
    assert [attempt.outcome for attempt in message.attempts] == ["overloaded_error"] * 2 + ["complete"]
    assert [attempt.called.model for attempt in message.attempts][-1] == "echo:pace=0"
    assert [attempt.number for attempt in message.attempts] == [1, 2, 3]
    assert len(message.steps) == 1
    assert message.usage == message.attempts[-1].usage, "what was refused has used nothing"
    assert codes(events) == ["attempt_failed", "fallback"]


async def test_without_a_fallback_it_ends_with_the_providers_error() -> None:
    model = llm("sim/demo:fault=error-before,status=503")
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ts.Overloaded) as raised:
            await model.collect("hello")
    partial = raised.value.partial
    assert isinstance(partial, ts.ModelMessage)
    assert [attempt.outcome for attempt in partial.attempts] == ["overloaded_error"] * 2


@pytest.mark.requirement("F4")
async def test_fallbacks_may_be_turned_off_in_the_settings() -> None:
    with pytest.raises(ts.Overloaded):
        await llm(
            "sim/demo:fault=error-before,status=503", "sim/echo", stream={"fallback_on_error": False}
        ).collect("hello")


async def test_an_answer_that_was_cut_begins_anew_where_nobody_has_read_it() -> None:
    model = llm("sim/demo:fault=cut,after=9,pace=0", "sim/echo:pace=0", retry=QUICK | {"attempts": 1})
    message = await model.collect("hello")
    assert message.text == "hello"
    assert message.complete
    assert [attempt.outcome for attempt in message.attempts] == ["stream_incomplete", "complete"]
    assert message.attempts[0].estimated
    assert message.cost_estimated
    used = [attempt.usage.output_tokens or 0 for attempt in message.attempts]
    assert used[0] > 0
    assert message.usage.output_tokens == sum(used), "what was thrown away was paid for too"


async def test_text_that_was_read_is_never_spliced() -> None:
    model = llm(
        "sim/demo:fault=cut,after=9,pace=0.001",
        "sim/echo:pace=0",
        retry=QUICK | {"attempts": 1},
        capabilities={"sim/*": {"prefill": False}},
        stream={"buffer_size": 1},  # nothing comes before what was there is read
    )
    async with asyncio.timeout(DEADLINE), model.stream("hello") as stream:
        pieces: list[str] = []
        with pytest.raises(ts.StreamBroken) as raised:
            await _read(stream, pieces)
    assert raised.value.code == "cannot_continue"
    assert raised.value.retryable
    assert "hello" not in "".join(pieces)
    assert "".join(pieces).startswith("Hello! I am")


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("first", "second", "retryable"),
    [
        ("fault=cut,after=9", "sim/echo:pace=0", True),
        ("fault=error,after=9,code=overloaded_error", "sim/echo:pace=0", True),
        ("fault=error,after=9,code=authentication_error", "sim/echo:pace=0", False),
        ("fault=cut,after=9", "sim/demo:pace=0,fault=max-tokens,after=4", True),
    ],
    ids=["cut", "overloaded", "a key that was refused", "a shorter answer"],
)
async def test_an_answer_that_cannot_continue_keeps_what_was_read(
    first: str, second: str, retryable: bool
) -> None:
    model = llm(
        f"sim/demo:pace=0.001,{first}",
        second,
        retry=QUICK | {"attempts": 1},
        capabilities={"sim/*": {"prefill": False}},
        stream={"buffer_size": 1},
    )
    async with asyncio.timeout(DEADLINE), model.stream("hello") as stream:
        pieces: list[str] = []
        with pytest.raises(ts.StreamBroken) as raised:
            await _read(stream, pieces)
    error = raised.value
    assert (error.code, error.retryable) == ("cannot_continue", retryable)
    assert isinstance(error.__cause__, ts.ProviderError)
    assert error.__cause__.retryable is retryable
    partial = error.partial
    assert isinstance(partial, ts.ModelMessage)
    assert partial.text == "".join(pieces) != ""
    assert not partial.complete
    assert [block.sequence for block in partial.blocks] == list(range(len(partial.blocks)))
    assert len(partial.attempts) == 2


@pytest.mark.fault(37)
async def test_what_was_read_survives_attempts_that_repeat_a_part_of_it() -> None:
    """The second call repeats some of the read text and breaks off too. The third has other text."""
    story = "sim/story:events=60,seed=3"
    model = llm(
        f"{story},pace=0.001,fault=cut,after=30",
        f"{story},pace=0.001,fault=cut,after=10",
        "sim/echo:pace=0",
        retry=QUICK | {"attempts": 1},
        capabilities={"sim/*": {"prefill": False}},
        stream={"buffer_size": 1},
    )
    async with asyncio.timeout(DEADLINE), model.stream("hello") as stream:
        pieces: list[str] = []
        with pytest.raises(ts.StreamBroken) as raised:
            await _read(stream, pieces)
    assert raised.value.code == "cannot_continue"
    partial = raised.value.partial
    assert partial is not None
    assert partial.text == "".join(pieces)
    assert len(partial.attempts) == 3


@pytest.mark.parametrize(("prefill", "code"), [(True, "continued"), (False, "restarted")])
async def test_an_attempt_that_goes_on_or_repeats_what_was_read_is_not_noticed(
    prefill: bool, code: str
) -> None:
    """The second model repeats the text of the first, so the text continues without a trace."""
    model = llm(
        "sim/story:events=60,pace=0.001,seed=3,fault=cut,after=30",
        "sim/story:events=60,pace=0,seed=3",
        retry=QUICK | {"attempts": 1},
        capabilities={"sim/*": {"prefill": prefill}},
        stream={"buffer_size": 1},
    )
    async with asyncio.timeout(DEADLINE), model.stream("go") as stream:
        pieces: list[str] = []
        events, _ = await asyncio.gather(_events(stream), _read(stream, pieces))
        message = await stream.final_message()
    whole = await llm("sim/story:events=60,pace=0,seed=3").collect("go")
    assert "".join(pieces) == message.text == whole.text
    assert len(message.attempts) == 2
    assert codes(events) == [code]


async def test_usage_and_cost_count_all_attempts_and_prices_come_from_the_settings() -> None:
    prices = {"sim/*": ts.PriceSettings(input_per_million=1000000, output_per_million=1000000)}
    model = ts.LLM(
        "sim/demo:fault=cut,after=9,pace=0",
        fallbacks=["sim/echo:pace=0"],
        prices=prices,
        settings=ts.Settings.model_validate({"retry": {"attempts": 1}}),
    )
    message = await model.collect("hello")
    tokens = (message.usage.input_tokens or 0) + (message.usage.output_tokens or 0)
    assert message.cost == tokens
    await model.load_prices()
    unknown = ts.LLM("ollama/nobody-knows", settings=ts.Settings())
    await unknown.load_prices()
    await unknown.close()


async def test_tools_of_an_attempt_that_failed_are_not_run_twice() -> None:
    ran: list[str] = []

    def look(what: str) -> str:
        ran.append(what)
        return what

    model = llm("sim/tools:fault=cut,after=16,pace=0", "sim/tools:pace=0", retry=QUICK | {"attempts": 1})
    message = await model.collect("go", tools=[look])
    assert sorted(ran) == ["example 1", "example 2"]
    assert message.complete
    assert message.text.endswith("The tools say: example 1; example 2")
    assert [step.stop_reason for step in message.steps] == ["tool_use", "end_turn"]


async def test_leaving_the_block_ends_the_waiting_for_another_attempt() -> None:
    model = llm("sim/demo:fault=error-before,status=503", retry={"attempts": 6, "delay": 3000})
    entering = asyncio.create_task(model.collect("hello"))
    for _ in range(20):
        await asyncio.sleep(0)
    entering.cancel()
    async with asyncio.timeout(1.0):
        with pytest.raises(asyncio.CancelledError):
            await entering


async def _events(stream: ts.MessageStream[None]) -> list[TurnEvent]:
    return [event async for event in stream]


async def _read(stream: ts.MessageStream[None], pieces: list[str]) -> None:
    async for piece in stream.text:
        pieces.append(piece)  # noqa: PERF401 - kept as far as it comes
